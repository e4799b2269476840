"""The fused loss against the plain one, to which autograd is applied."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tests.tracing import LargestTensor
from verl_vaopd.algorithm import fused_linear_reverse_kl, reverse_kl, token_log_probs

M, Ds, Dt, V = 13, 6, 9, 20
R_STUDENT, R_TEACHER = 23, 21


def inputs(dtype=torch.float32, seed=0, rows=M):
    """Hidden states and head of the student, of the teacher, weights; the second and the last row weigh nothing."""
    generator = torch.Generator().manual_seed(seed)
    shapes = [(rows, Ds), (R_STUDENT, Ds), (rows, Dt), (R_TEACHER, Dt)]
    tensors = [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes]
    weights = torch.rand(rows, generator=generator, dtype=torch.float64).to(dtype)
    weights[1:2] = 0
    weights[-1:] = 0
    return *tensors, weights


def plain(hidden, head, teacher_hidden, teacher_head, weights):
    kl = reverse_kl(hidden @ head.t(), teacher_hidden @ teacher_head.t(), V)
    return (weights * kl).sum(), kl


def gradients(function, h, head, *constants, scale=1.0, **options):
    h, head = h.clone().requires_grad_(), head.clone().requires_grad_()
    loss, kl, *_ = function(h, head, *constants, **options)
    (scale * loss).backward()
    return loss.detach(), kl.detach(), h.grad, head.grad


def fused(*tensors, **options):
    return fused_linear_reverse_kl(*tensors, V, **options)


def close(actual, expected, rtol=1e-5):
    """Largest deviation relative to the largest entry."""
    assert actual.dtype == expected.dtype and actual.shape == expected.shape
    assert (actual - expected).abs().max() <= rtol * expected.abs().max()


@pytest.mark.parametrize("chunk_size", [1, 3, 7, M, 100, None])
@pytest.mark.parametrize("seed", range(10))
def test_loss_kl_and_gradients_equal_autograd_through_the_plain_form(seed, chunk_size):
    tensors = inputs(seed=seed)
    loss, kl, grad_hidden, grad_head = gradients(fused, *tensors, chunk_size=chunk_size, scale=-2.5)
    expected = gradients(plain, *tensors, scale=-2.5)
    close(loss, expected[0])
    close(kl, torch.where(tensors[-1] == 0, 0.0, expected[1]))  # rows of weight 0 are reported as 0
    close(grad_hidden, expected[2])
    close(grad_head, expected[3])


def test_gradcheck():
    hidden, head, *constants = inputs(torch.float64, rows=5)
    hidden.requires_grad_(), head.requires_grad_()
    assert torch.autograd.gradcheck(lambda h, w: fused(h, w, *constants, chunk_size=2)[0], (hidden, head))


@pytest.mark.parametrize("chunk_size", [1, 3, 7])
def test_chunk_size_changes_nothing(chunk_size):
    tensors = inputs(torch.float64)
    for one, other in zip(
        gradients(fused, *tensors, chunk_size=chunk_size), gradients(fused, *tensors, chunk_size=M), strict=True
    ):
        close(one, other, rtol=1e-13)


def test_splitting_the_rows_over_calls_changes_nothing():
    hidden, head, teacher_hidden, teacher_head, weights = inputs(torch.float64)
    whole = gradients(fused, hidden, head, teacher_hidden, teacher_head, weights)
    order = torch.randperm(M, generator=torch.Generator().manual_seed(1))
    losses, grad_head = 0, 0
    for rows in (order[:4], order[4:5], order[5:]):
        loss, kl, grad_hidden, part = gradients(
            fused, hidden[rows], head, teacher_hidden[rows], teacher_head, weights[rows]
        )
        losses, grad_head = losses + loss, grad_head + part
        close(kl, whole[1][rows], rtol=1e-12)
        close(grad_hidden, whole[2][rows], rtol=1e-12)
    close(losses, whole[0], rtol=1e-12)
    close(grad_head, whole[3], rtol=1e-12)


@pytest.mark.parametrize("dtype, bound", [(torch.float64, 1e-9), (torch.float32, 1e-6), (torch.bfloat16, 1e-6)])
def test_student_equal_to_teacher_has_no_loss_and_no_gradient(dtype, bound):
    hidden, head, _, _, weights = inputs(dtype)
    loss, kl, grad_hidden, grad_head = gradients(fused, hidden, head, hidden, head, weights)
    for value in (loss, kl, grad_hidden, grad_head):
        assert value.abs().max() < bound


def test_padded_head_rows_change_nothing_and_get_no_gradient():
    hidden, head, teacher_hidden, teacher_head, weights = inputs()
    bare = gradients(fused, hidden, head[:V], teacher_hidden, teacher_head[:V], weights)
    head[V:], teacher_head[V:] = float("nan"), float("inf")
    loss, kl, grad_hidden, grad_head = gradients(fused, hidden, head, teacher_hidden, teacher_head, weights)
    assert torch.equal(loss, bare[0]) and torch.equal(kl, bare[1]) and torch.equal(grad_hidden, bare[2])
    assert torch.equal(grad_head[:V], bare[3])
    assert grad_head.shape == head.shape and not grad_head[V:].any()


@pytest.mark.parametrize("hidden_wants", [True, False])
@pytest.mark.parametrize("head_wants", [True, False])
def test_gradients_go_only_where_they_are_wanted(hidden_wants, head_wants):
    tensors = inputs()
    expected = gradients(plain, *tensors)
    hidden, head = tensors[0].requires_grad_(hidden_wants), tensors[1].requires_grad_(head_wants)
    constants = [tensor.requires_grad_() for tensor in tensors[2:]]
    loss, kl = fused(hidden, head, *constants)
    assert loss.requires_grad == (hidden_wants or head_wants) and not kl.requires_grad
    if loss.requires_grad:
        loss.backward()
    for tensor, wanted, grad in ((hidden, hidden_wants, expected[2]), (head, head_wants, expected[3])):
        if wanted:
            close(tensor.grad, grad)
        else:
            assert tensor.grad is None
    assert all(tensor.grad is None for tensor in constants)


def test_the_backward_may_run_twice():
    tensors = inputs()
    hidden = tensors[0].requires_grad_()
    loss, _ = fused(*tensors)
    (first,) = torch.autograd.grad(loss, hidden, torch.tensor(3.0), retain_graph=True)
    (second,) = torch.autograd.grad(loss, hidden)
    torch.testing.assert_close(first, 3 * second)


def test_rows_of_weight_zero_are_skipped_even_if_they_hold_nan():
    hidden, head, teacher_hidden, teacher_head, weights = inputs()
    clean = gradients(fused, hidden, head, teacher_hidden, teacher_head, weights)
    hidden[1], teacher_hidden[M - 1] = float("nan"), float("nan")
    for one, other in zip(gradients(fused, hidden, head, teacher_hidden, teacher_head, weights), clean, strict=True):
        assert torch.equal(one, other)
    assert clean[1][1] == 0 and clean[1][M - 1] == 0 and not clean[2][1].any()


@pytest.mark.parametrize("chunk_size", [2, None])
def test_log_probs_come_from_the_same_chunks_for_every_row(chunk_size):
    tensors = inputs()
    ids = torch.randint(0, V, (M,), generator=torch.Generator().manual_seed(2))
    hidden, head = tensors[0].requires_grad_(), tensors[1].requires_grad_()
    loss, kl, log_probs = fused(*tensors, chunk_size=chunk_size, token_ids=ids)
    loss.backward()
    expected = gradients(plain, *(tensor.detach() for tensor in tensors))
    close(loss.detach(), expected[0])
    close(kl, expected[1])  # rows of weight 0 as well
    close(log_probs, token_log_probs(hidden, head, ids, V))
    close(hidden.grad, expected[2])
    close(head.grad, expected[3])
    assert not log_probs.requires_grad and not hidden.grad[1].any()


@pytest.mark.parametrize("rows", [0, 1])
def test_without_rows_or_without_weight_there_still_is_a_graph(rows):
    hidden, head, teacher_hidden, teacher_head, weights = inputs(rows=rows)  # a single row has weight 0
    hidden.requires_grad_(), head.requires_grad_()
    ids = torch.zeros(rows, dtype=torch.long)
    for options in ({}, {"token_ids": ids}):
        loss, kl, *_ = fused(hidden, head, teacher_hidden, teacher_head, weights, **options)
        assert loss.item() == 0 and kl.shape == (rows,)
        grad_hidden, grad_head = torch.autograd.grad(loss, (hidden, head))
        assert grad_hidden.shape == hidden.shape and grad_head.shape == head.shape and not grad_head.any()


class CountGemms(TorchDispatchMode):
    """Counts matrix products."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func.overloadpacket in (torch.ops.aten.mm, torch.ops.aten.addmm, torch.ops.aten.addmm_)
        return func(*args, **(kwargs or {}))


def wide(dtype=torch.float32, rows=512, vocab_size=5000):
    generator = torch.Generator().manual_seed(0)
    hidden, head, teacher_hidden, teacher_head = (
        torch.randn(shape, generator=generator).to(dtype)
        for shape in [(rows, 8), (vocab_size, 8), (rows, 12), (vocab_size, 12)]
    )
    return hidden.requires_grad_(), head.requires_grad_(), teacher_hidden, teacher_head, torch.full((rows,), 1 / rows)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_never_holds_rows_times_vocabulary(dtype):
    tensors = wide(dtype)
    with LargestTensor() as largest:
        fused_linear_reverse_kl(*tensors, 5000, chunk_size=64)[0].backward()
    assert largest.numel == 64 * 5000  # a chunk, not 512 * 5000
    with LargestTensor() as largest:
        token_log_probs(tensors[0], tensors[1], torch.zeros(512, dtype=torch.long), 5000, chunk_size=64)
    assert largest.numel == 64 * 5000


@pytest.mark.parametrize(
    "hidden_wants, head_wants, gemms", [(True, True, 4), (True, False, 3), (False, True, 3), (False, False, 2)]
)
def test_number_of_gemms(hidden_wants, head_wants, gemms):
    hidden, head, *constants = wide()
    hidden, head = hidden.detach().requires_grad_(hidden_wants), head.detach().requires_grad_(head_wants)
    with CountGemms() as counter:
        loss, _ = fused_linear_reverse_kl(hidden, head, *constants, 5000, chunk_size=64)
        if loss.requires_grad:
            loss.backward()
    assert counter.count == gemms * 8  # 512 rows in chunks of 64: 8 chunks


def test_without_grad_mode_no_gradient_is_formed():
    with CountGemms() as counter, torch.no_grad():
        loss, _ = fused_linear_reverse_kl(*wide(), 5000, chunk_size=512)
    assert counter.count == 2 and not loss.requires_grad  # one per model


def test_bfloat16_is_near_float32():
    tensors = wide(torch.bfloat16)
    expected = gradients(lambda *t: fused_linear_reverse_kl(*t, 5000), *(tensor.detach().float() for tensor in tensors))
    loss, kl, grad_hidden, grad_head = gradients(
        lambda *t: fused_linear_reverse_kl(*t, 5000, chunk_size=64), *(tensor.detach() for tensor in tensors)
    )
    assert loss.dtype == kl.dtype == torch.float32
    assert grad_hidden.dtype == grad_head.dtype == torch.bfloat16
    for actual, exact in zip((loss, kl, grad_hidden, grad_head), expected, strict=True):
        assert (actual.float() - exact).norm() < 0.02 * exact.norm()  # bfloat16 has 8 bits: 0.4% a rounding


def test_models_may_differ_in_dtype():
    hidden, head, teacher_hidden, teacher_head, weights = inputs()
    teacher = teacher_hidden.bfloat16(), teacher_head.bfloat16()
    loss, _, grad_hidden, _ = gradients(fused, hidden, head, *teacher, weights)
    exact = gradients(plain, hidden, head, teacher_hidden, teacher_head, weights)
    assert loss.dtype == grad_hidden.dtype == torch.float32
    close(loss, exact[0], rtol=0.05)
    close(grad_hidden, exact[2], rtol=0.05)


def test_autocast_does_not_lower_the_precision():
    tensors = inputs()
    expected = gradients(fused, *tensors)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = gradients(fused, *tensors)
    assert all(torch.equal(one, other) for one, other in zip(actual, expected, strict=True))


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(student_hidden=torch.zeros(M, Ds + 1)), "student: hidden states must be"),
        (dict(teacher_head=torch.zeros(R_TEACHER, Dt + 1)), "teacher: hidden states must be"),
        (dict(student_head=torch.zeros(R_STUDENT)), "student: hidden states must be"),
        (dict(teacher_hidden=torch.zeros(M + 1, Dt)), "teacher_hidden has shape"),
        (dict(token_weights=torch.ones(M + 1)), "token_weights has shape"),
        (dict(token_weights=torch.ones(M, 1)), "token_weights has shape"),
        (dict(student_head=torch.zeros(R_STUDENT, Ds).bfloat16()), "student: hidden states are torch.float32 and the"),
        (dict(teacher_hidden=torch.zeros(M, Dt).double()), "teacher: hidden states are torch.float64 and the head"),
        (dict(vocab_size=R_STUDENT + 1), "larger than the head of the student, which has 23 rows"),
        (dict(vocab_size=R_TEACHER + 1), "larger than the head of the teacher, which has 21 rows"),
        (dict(vocab_size=0), "vocab_size must be at least 1"),
        (dict(chunk_size=0), "chunk_size must be at least 1"),
        (dict(token_ids=torch.full((M,), V)), rf"token_ids\[0\] = {V} is outside"),
        (dict(token_ids=torch.zeros(M - 1, dtype=torch.long)), "token_ids has shape"),
    ],
)
def test_refuses_what_does_not_fit(change, message):
    names = ("student_hidden", "student_head", "teacher_hidden", "teacher_head", "token_weights")
    with pytest.raises(ValueError, match=message):
        fused_linear_reverse_kl(**{**dict(zip(names, inputs(), strict=True)), "vocab_size": V, **change})


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_refuses_a_weight_that_is_not_finite(value):
    *tensors, weights = inputs()
    weights[3] = value
    with pytest.raises(ValueError, match="token_weights is not finite.*row 3"):
        fused(*tensors, weights)
