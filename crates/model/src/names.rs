//! What the two kinds of files call a decoder's tensors.

/// The tensors' names; those of a layer follow its own prefix.
#[derive(Debug)]
pub(crate) struct Names {
    pub(crate) embedding: &'static str,
    pub(crate) final_norm: &'static str,
    pub(crate) output: &'static str,
    /// Before a layer's number; a point follows.
    pub(crate) layer: &'static str,
    pub(crate) norm: &'static str,
    pub(crate) q: &'static str,
    pub(crate) k: &'static str,
    pub(crate) v: &'static str,
    pub(crate) qkv: &'static str,
    pub(crate) o: &'static str,
    pub(crate) q_norm: &'static str,
    pub(crate) k_norm: &'static str,
    pub(crate) post_norm: &'static str,
    pub(crate) feed_forward_norm: &'static str,
    pub(crate) gate: &'static str,
    pub(crate) up: &'static str,
    pub(crate) gate_up: &'static str,
    pub(crate) down: &'static str,
    pub(crate) feed_forward_post_norm: &'static str,
    /// Ends of names of tensors that hold nothing a decoder needs.
    pub(crate) ignored: &'static [&'static str],
}

/// GGUF files.
pub(crate) static GGUF: Names = Names {
    embedding: "token_embd.weight",
    final_norm: "output_norm.weight",
    output: "output.weight",
    layer: "blk.",
    norm: "attn_norm",
    q: "attn_q",
    k: "attn_k",
    v: "attn_v",
    qkv: "attn_qkv",
    o: "attn_output",
    q_norm: "attn_q_norm",
    k_norm: "attn_k_norm",
    post_norm: "post_attention_norm",
    feed_forward_norm: "ffn_norm",
    gate: "ffn_gate",
    up: "ffn_up",
    gate_up: "ffn_up",
    down: "ffn_down",
    feed_forward_post_norm: "post_ffw_norm",
    // The factors for sequences longer than any that will be run, and frequencies that old converters kept.
    ignored: &["rope_factors_long.weight", "attn_rot_embd.weight"],
};

/// Hugging Face directories.
pub(crate) static HUGGING_FACE: Names = Names {
    embedding: "model.embed_tokens.weight",
    final_norm: "model.norm.weight",
    output: "lm_head.weight",
    layer: "model.layers.",
    norm: "input_layernorm",
    q: "self_attn.q_proj",
    k: "self_attn.k_proj",
    v: "self_attn.v_proj",
    qkv: "self_attn.qkv_proj",
    o: "self_attn.o_proj",
    q_norm: "self_attn.q_norm",
    k_norm: "self_attn.k_norm",
    post_norm: "post_attention_layernorm",
    feed_forward_norm: "post_attention_layernorm",
    gate: "mlp.gate_proj",
    up: "mlp.up_proj",
    gate_up: "mlp.gate_up_proj",
    down: "mlp.down_proj",
    feed_forward_post_norm: "post_feedforward_layernorm",
    ignored: &["rotary_emb.inv_freq"],
};

/// Hugging Face directories of families that norm twice.
pub(crate) static HUGGING_FACE_POST_NORMS: Names = Names {
    feed_forward_norm: "pre_feedforward_layernorm",
    ..HUGGING_FACE
};
