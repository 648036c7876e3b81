"""Operators that a ``.pt2`` program may call: arithmetic on tensors and sizes, and control flow.

torch resolves an operator by walking attributes from ``torch``, ``math`` or ``_operator``, so that a name could be any
function of Python. Here a name stands in a list, or the file is refused. Nothing in the lists reads or writes a file,
starts a program, keeps a handle, or reaches outside the tensors it is given.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_ATEN: Final = _names(
    """
    abs absolute acos acosh adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d
    adaptive_max_pool2d adaptive_max_pool3d add addbmm addcdiv addcmul addmm addmv addr adjoint
    affine_grid_generator alias alias_copy all alpha_dropout amax amin aminmax angle any arange arccos arccosh
    arcsin arcsinh arctan arctan2 arctanh argmax argmin argsort argwhere as_strided as_strided_copy
    as_strided_scatter asin asinh atan atan2 atanh atleast_1d atleast_2d atleast_3d avg_pool1d avg_pool2d
    avg_pool3d baddbmm bartlett_window batch_norm bernoulli bilinear binary_cross_entropy
    binary_cross_entropy_with_logits bincount binomial bitwise_and bitwise_left_shift bitwise_not bitwise_or
    bitwise_right_shift bitwise_xor blackman_window block_diag bmm broadcast_tensors broadcast_to bucketize
    cartesian_prod cat cdist ceil celu chalf channel_shuffle chunk clamp clamp_max clamp_min clip clone col2im
    column_stack combinations complex concat concatenate conj conj_physical constant_pad_nd contiguous conv1d
    conv2d conv3d conv_tbc conv_transpose1d conv_transpose2d conv_transpose3d convolution copy copysign corrcoef
    cos cosh cosine_embedding_loss cosine_similarity count_nonzero cov cross cross_entropy_loss cummax cummin
    cumprod cumsum cumulative_trapezoid deg2rad det detach detach_copy diag diag_embed diagflat diagonal
    diagonal_copy diagonal_scatter diff digamma dim dist div divide dot dropout dsplit dstack einsum elu
    embedding embedding_bag empty empty_like empty_permuted empty_strided eq erf erfc erfinv exp exp2 expand
    expand_as expand_copy expm1 eye fake_quantize_per_channel_affine fake_quantize_per_channel_affine_cachemask
    fake_quantize_per_tensor_affine fake_quantize_per_tensor_affine_cachemask feature_alpha_dropout
    feature_dropout fill fill_diagonal_ fix flatten flip fliplr flipud float_power floor floor_divide fmax fmin
    fmod frac fractional_max_pool2d fractional_max_pool3d frexp frobenius_norm full full_like gather gcd ge gelu
    glu gradient greater greater_equal grid_sampler grid_sampler_2d grid_sampler_3d group_norm gru gru_cell gt
    hamming_window hann_window hardshrink hardsigmoid hardswish hardtanh heaviside hinge_embedding_loss histc
    histogram hsplit hstack huber_loss hypot i0 igamma igammac im2col imag index index_add index_copy index_fill
    index_put index_reduce index_select inner instance_norm inverse is_complex is_contiguous is_floating_point
    is_signed isclose isfinite isin isinf isnan isneginf isposinf isreal istft item kaiser_window kl_div kron
    kthvalue l1_loss layer_norm lcm ldexp le leaky_relu lerp less less_equal lgamma lift lift_fresh
    lift_fresh_copy linear linspace log log10 log1p log2 log_sigmoid log_sigmoid_forward log_softmax logaddexp
    logaddexp2 logcumsumexp logdet logical_and logical_not logical_or logical_xor logit logspace logsumexp lstm
    lstm_cell lt mH mT margin_ranking_loss masked_fill masked_scatter masked_select matmul matrix_H matrix_exp
    matrix_power max max_pool1d max_pool1d_with_indices max_pool2d max_pool2d_with_indices max_pool3d
    max_pool3d_with_indices max_unpool2d max_unpool3d maximum mean median meshgrid min minimum mish mm mode
    moveaxis movedim mse_loss msort mul multinomial multiply mv mvlgamma nan_to_num nanmean nanmedian
    nanquantile nansum narrow narrow_copy native_batch_norm native_channel_shuffle native_dropout
    native_group_norm native_layer_norm native_norm ne neg negative new_empty new_empty_strided new_full
    new_ones new_zeros nextafter nll_loss nll_loss2d nll_loss2d_forward nll_loss_forward nll_loss_nd nonzero
    nonzero_static norm norm_except_dim normal normal_functional not_equal numel numpy_T one_hot ones ones_like
    outer pad pad_sequence pairwise_distance pdist permute permute_copy pinverse pixel_shuffle pixel_unshuffle
    poisson poisson_nll_loss polar polygamma positive pow prelu prod quantile rad2deg rand rand_like randint
    randint_like randn randn_like random randperm range ravel real reciprocal reflection_pad1d reflection_pad2d
    reflection_pad3d relu relu6 remainder renorm repeat repeat_interleave replication_pad1d replication_pad2d
    replication_pad3d reshape reshape_as resolve_conj resolve_neg rms_norm rnn_relu rnn_relu_cell rnn_tanh
    rnn_tanh_cell roll rot90 round row_stack rrelu rrelu_with_noise rrelu_with_noise_functional rsqrt rsub
    scalar_tensor scaled_dot_product_attention scatter scatter_add scatter_reduce searchsorted select
    select_copy select_scatter selu sgn sigmoid sign signbit silu sin sinc sinh size slice slice_copy
    slice_inverse slice_scatter slogdet smooth_l1_loss soft_margin_loss softmax softplus softshrink sort split
    split_copy split_with_sizes split_with_sizes_copy sqrt square squeeze squeeze_copy stack std std_mean stft
    storage_offset stride sub subtract sum sum_to_size swapaxes swapdims sym_constrain_range
    sym_constrain_range_for_size sym_is_contiguous sym_numel sym_size sym_storage_offset sym_stride t t_copy
    take take_along_dim tan tanh tensor_split tensordot threshold tile to to_dense topk trace transpose
    transpose_copy trapezoid trapz tril tril_indices triplet_margin_loss triu triu_indices true_divide trunc
    type_as unbind unbind_copy unflatten unfold unfold_copy uniform unique_consecutive unique_dim
    unique_dim_consecutive unsafe_split unsafe_split_with_sizes unsqueeze unsqueeze_copy upsample_bicubic2d
    upsample_bilinear2d upsample_linear1d upsample_nearest1d upsample_nearest2d upsample_nearest3d
    upsample_trilinear3d vander var var_mean vdot view view_as view_as_complex view_as_complex_copy view_as_real
    view_as_real_copy view_copy vsplit vstack where xlogy zero zeros zeros_like
    __and__ __lshift__ __or__ __rshift__ __xor__ _adaptive_avg_pool2d _adaptive_avg_pool3d _assert_async
    _assert_scalar _assert_tensor_metadata _batch_norm_no_update _cast_Byte _cast_Char _cast_Double _cast_Float
    _cast_Half _cast_Int _cast_Long _cast_Short _cdist_forward _chunk_cat _conj _conv_depthwise2d _convolution
    _embedding_bag _embedding_bag_forward_only _euclidean_dist _fft_c2c _fft_c2r _fft_r2c
    _functional_assert_async _functional_assert_scalar _functional_sym_constrain_range
    _functional_sym_constrain_range_for_size _fused_rms_norm _int_mm _is_all_true _is_any_true
    _local_scalar_dense _log_softmax _logcumsumexp _masked_softmax _native_batch_norm_legit
    _native_batch_norm_legit_functional _native_batch_norm_legit_no_training _native_multi_head_attention
    _neg_view _pack_padded_sequence _pad_circular _pad_enum _pad_packed_sequence _pdist_forward _prelu_kernel
    _reshape_alias _reshape_copy _safe_softmax _scaled_dot_product_attention_math
    _scaled_dot_product_cudnn_attention _scaled_dot_product_efficient_attention
    _scaled_dot_product_flash_attention _scaled_dot_product_flash_attention_for_cpu _shape_as_tensor _softmax
    _stack _to_copy _to_cpu _transformer_encoder_layer_fwd _trilinear _unique _unique2 _unsafe_index
    _unsafe_index_put _unsafe_masked_index _unsafe_view _upsample_bicubic2d_aa _upsample_bilinear2d_aa
    _upsample_nearest_exact1d _upsample_nearest_exact2d _upsample_nearest_exact3d _weight_norm
    _weight_norm_interface
    """
)
"""Of torch.ops.aten; ``add_``, in place, goes with ``add``."""
_FAMILIES: Final = ("fft_", "linalg_", "special_")
"""Of torch.ops.aten, too: whole families of functions of tensors."""
_PRIMS: Final = _names(
    """
    abs acos acosh add amax amin as_strided as_strided_scatter asin asinh atan atan2 atanh bessel_i0 bessel_i0e
    bessel_i1 bessel_i1e bessel_j0 bessel_j1 bitwise_and bitwise_not bitwise_or bitwise_xor broadcast_in_dim cat
    cbrt ceil clone collapse collapse_view conj conj_physical convert_element_type cos cosh digamma div empty
    empty_permuted empty_strided eq erf erf_inv erfc erfcx exp exp2 expm1 fft_c2c fft_c2r fft_r2c fill floor
    fmax fmin fmod frexp full full_like gcd ge gt hypot igamma igammac imag iota isfinite le lgamma log log10
    log1p log2 lt maximum maximum_value minimum minimum_value mul ndtri ne neg nextafter pow prod real
    reciprocal remainder reshape rev round rsqrt scalar_tensor shift_left shift_right_arithmetic sign signbit
    sin sinh spherical_bessel_j0 split_dim sqrt squeeze sub sum tan tanh transpose trunc var view_of
    view_of_dtype where xor_sum zeta
    """
)
CONTROL: Final = frozenset(
    f"torch.ops.higher_order.{name}"
    for name in _names("associative_scan cond map_impl scan while_loop wrap_with_autocast wrap_with_set_grad_enabled")
)
"""Those that call a subgraph of the program itself."""
SIZES: Final = _names(
    "_operator.add _operator.and_ _operator.eq _operator.floordiv _operator.ge _operator.gt _operator.le "
    "_operator.lshift _operator.lt _operator.mod _operator.mul _operator.ne _operator.neg _operator.or_ _operator.pos "
    "_operator.pow _operator.rshift _operator.sub _operator.truediv math.trunc torch._sym_sqrt torch.sym_float "
    "torch.sym_int torch.sym_ite torch.sym_max torch.sym_min torch.sym_not torch.sym_sqrt"
)
"""Arithmetic of sizes: ``torch._export.serde.serialize._SYM_OPS``."""
_VMAP: Final = frozenset(
    f"torch._functorch.predispatch.{name}"
    for name in _names(
        "_add_batch_dim _remove_batch_dim _vmap_decrement_nesting _vmap_increment_nesting lazy_load_decompositions"
    )
)
"""What torch captures of torch.vmap."""
_TARGET = re.compile(r"torch\.ops\.(aten|prims)\.(\w+)\.(\w+)")


@lru_cache(maxsize=4096)
def is_allowed(target: str) -> bool:
    """Whether a program may call ``target``, an operator as torch writes it: ``torch.ops.aten.add.Tensor``."""
    if target in SIZES or target in CONTROL or target in _VMAP:
        return True
    match = _TARGET.fullmatch(target)
    if match is None:
        return False
    space, name, overload = match.groups()
    if space == "prims":
        known = name in _PRIMS
    else:
        known = name in _ATEN or name.removesuffix("_") in _ATEN or name.startswith(_FAMILIES)
    return known and f"{space}::{name}" + ("" if overload == "default" else f".{overload}") in _dispatched()


@lru_cache(maxsize=1)
def _dispatched() -> frozenset[str]:
    """Operators on tensors. TorchScript's own, on text, lists and objects, share their names (``aten::add.str``)."""
    import torch

    return frozenset(torch._C._dispatch_get_all_op_names())
