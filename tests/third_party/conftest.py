"""What lies below are distributions of their own, with tests of their own: tests/test_third_party.py installs them."""

collect_ignore_glob = ["*"]
