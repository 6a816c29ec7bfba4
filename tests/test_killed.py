"""A run that is killed at any moment, and goes on, ends as one that was never stopped."""

from killing import differences, killed_and_whole

KILLS = 20


def test_a_killed_run_ends_as_if_it_had_not_been(tmp_path):
    whole, killed, hits, writing = killed_and_whole(tmp_path, epochs=150, kills=KILLS, seed=0)
    assert (hits, writing > 0) == (KILLS, True)
    assert differences(whole, killed) == []
