import torch

import genkit
from genkit.engine.feed import Feed


def feed(count):
    source = torch.arange(count).float().view(count, 1)
    return Feed(genkit.Split(source, torch.Tensor.float, torch.arange(count)), torch.device("cpu"))


def chosen(view, count, batch_size):
    batches = list(genkit.spread(view, count, batch_size))
    assert all(0 < len(batch.x) <= batch_size for batch in batches)
    assert all(torch.equal(batch.x.flatten().long(), batch.labels) for batch in batches)
    return torch.cat([batch.labels for batch in batches])


def test_examples_come_from_all_over_a_split():
    found = chosen(feed(6000), 1000, 500)
    assert len(found.unique()) == 1000
    assert [int((found // 1000 == part).sum()) // 100 for part in range(6)] == [1] * 6  # 100 to 199 of each thousand
    for period in (2, 3, 6, 10):  # nothing that repeats is favoured
        counts = torch.bincount(found % period)
        assert counts.min() > 0.7 * 1000 / period


def test_the_choice_is_the_same_for_every_batch_size_and_whatever_was_drawn_before():
    first = chosen(feed(100), 30, 7)
    torch.rand(3)
    state = torch.get_rng_state()
    assert torch.equal(chosen(feed(100), 30, 100), first)
    assert torch.equal(torch.get_rng_state(), state)


def test_all_examples_keep_their_order():
    assert chosen(feed(20), 20, 6).tolist() == list(range(20))
