//! Writes small GGUF files, right or wrong in any way a test wants.

#![allow(dead_code, reason = "each test binary uses its own part")]

/// A value as the file has it: its type's number and its bytes.
#[derive(Clone, Debug)]
pub(crate) struct Value {
    pub(crate) ty: u32,
    pub(crate) bytes: Vec<u8>,
}

/// A tensor as the file describes it; `dims` is innermost first. Without an offset it goes where
/// the one before it ends, and its data is ones.
#[derive(Clone, Debug)]
pub(crate) struct Tensor {
    pub(crate) name: Vec<u8>,
    pub(crate) dims: Vec<u64>,
    pub(crate) ty: u32,
    pub(crate) offset: Option<u64>,
}

/// A GGUF file.
#[derive(Clone, Debug)]
pub(crate) struct Gguf {
    pub(crate) magic: [u8; 4],
    pub(crate) version: u32,
    /// What the header says, if not the truth.
    pub(crate) pair_count: Option<u64>,
    /// What the header says, if not the truth.
    pub(crate) tensor_count: Option<u64>,
    pub(crate) pairs: Vec<(Vec<u8>, Value)>,
    pub(crate) tensors: Vec<Tensor>,
}

pub(crate) const F32: u32 = 0;
pub(crate) const Q4_0: u32 = 2;
pub(crate) const Q8_0: u32 = 8;

pub(crate) fn u8(n: u8) -> Value {
    value(0, &[n])
}

pub(crate) fn u32(n: u32) -> Value {
    value(4, &n.to_le_bytes())
}

pub(crate) fn i32(n: i32) -> Value {
    value(5, &n.to_le_bytes())
}

pub(crate) fn u64(n: u64) -> Value {
    value(10, &n.to_le_bytes())
}

pub(crate) fn f32(n: f32) -> Value {
    value(6, &n.to_le_bytes())
}

pub(crate) fn text(text: &str) -> Value {
    value(8, &string(text.as_bytes()))
}

pub(crate) fn texts(texts: &[&str]) -> Value {
    let strings = texts.iter().map(|text| string(text.as_bytes()));
    array(8, texts.len() as u64, &strings.collect::<Vec<_>>().concat())
}

pub(crate) fn f32s(numbers: &[f32]) -> Value {
    let bytes: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
    array(6, numbers.len() as u64, &bytes)
}

pub(crate) fn i32s(numbers: &[i32]) -> Value {
    let bytes: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
    array(5, numbers.len() as u64, &bytes)
}

pub(crate) fn array(ty: u32, count: u64, bytes: &[u8]) -> Value {
    let head = [&ty.to_le_bytes()[..], &count.to_le_bytes()].concat();
    value(9, &[&head, bytes].concat())
}

pub(crate) fn value(ty: u32, bytes: &[u8]) -> Value {
    Value {
        ty,
        bytes: bytes.to_vec(),
    }
}

pub(crate) fn string(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u64).to_le_bytes(), bytes].concat()
}

/// The architectures [`Gguf::tiny`] knows.
pub(crate) const ARCHITECTURES: [&str; 9] = [
    "llama", "qwen2", "qwen3", "gemma2", "gemma3", "phi3", "olmo2", "granite", "smollm3",
];

const TOKENS: [&str; 6] = ["<unk>", "<s>", "</s>", "a", "b", "ab"];
const WIDTH: u64 = 8;
const HIDDEN: u64 = 16;

impl Gguf {
    /// A whole model of one layer: width 8, two heads over one, six tokens.
    pub(crate) fn tiny(architecture: &str) -> Self {
        let mut file = Self {
            magic: *b"GGUF",
            version: 3,
            pair_count: None,
            tensor_count: None,
            pairs: Vec::new(),
            tensors: Vec::new(),
        };
        file.set("general.architecture", text(architecture));
        file.set("general.alignment", u32(32));
        for (key, value) in [
            ("context_length", u32(64)),
            ("embedding_length", u32(WIDTH as u32)),
            ("block_count", u32(1)),
            ("feed_forward_length", u32(HIDDEN as u32)),
            ("attention.head_count", u32(2)),
            ("attention.head_count_kv", u32(1)),
            ("attention.layer_norm_rms_epsilon", f32(1e-5)),
            ("rope.dimension_count", u32(4)),
            ("rope.freq_base", f32(10_000.0)),
        ] {
            file.set(&format!("{architecture}.{key}"), value);
        }
        let gemma = architecture.starts_with("gemma");
        if gemma {
            let key = |name: &str| format!("{architecture}.{name}");
            file.set(&key("attention.sliding_window"), u32(32));
            file.set(&key("attn_logit_softcapping"), f32(50.0));
            file.set(&key("final_logit_softcapping"), f32(30.0));
        }
        if architecture == "granite" {
            file.set("granite.logit_scale", f32(8.0));
        }
        file.vocabulary();
        file.layer(architecture);
        file
    }

    fn vocabulary(&mut self) {
        self.set("tokenizer.ggml.model", text("llama"));
        self.set("tokenizer.ggml.tokens", texts(&TOKENS));
        let scores = [0.0, 0.0, 0.0, -1.0, -2.0, -3.0];
        self.set("tokenizer.ggml.scores", f32s(&scores));
        self.set("tokenizer.ggml.token_type", i32s(&[2, 3, 3, 1, 1, 1]));
        self.set("tokenizer.ggml.bos_token_id", u32(1));
        self.set("tokenizer.ggml.eos_token_id", u32(2));
        self.set("tokenizer.ggml.unknown_token_id", u32(0));
        self.set("tokenizer.chat_template", text("{{ messages }}"));
    }

    fn layer(&mut self, architecture: &str) {
        let olmo = architecture == "olmo2";
        self.tensor("token_embd.weight", &[WIDTH, TOKENS.len() as u64], F32);
        self.tensor("output_norm.weight", &[WIDTH], F32);
        if !olmo {
            self.tensor("blk.0.attn_norm.weight", &[WIDTH], F32);
            self.tensor("blk.0.ffn_norm.weight", &[WIDTH], F32);
        }
        self.tensor("blk.0.attn_output.weight", &[8, WIDTH], F32);
        self.tensor("blk.0.ffn_down.weight", &[HIDDEN, WIDTH], F32);
        if architecture == "phi3" {
            self.tensor("blk.0.attn_qkv.weight", &[WIDTH, 16], F32);
            self.tensor("blk.0.ffn_up.weight", &[WIDTH, 2 * HIDDEN], F32);
        } else {
            for (part, rows) in [("q", 8), ("k", 4), ("v", 4)] {
                self.tensor(&format!("blk.0.attn_{part}.weight"), &[WIDTH, rows], F32);
                if architecture == "qwen2" {
                    self.tensor(&format!("blk.0.attn_{part}.bias"), &[rows], F32);
                }
            }
            self.tensor("blk.0.ffn_gate.weight", &[WIDTH, HIDDEN], F32);
            self.tensor("blk.0.ffn_up.weight", &[WIDTH, HIDDEN], F32);
        }
        if matches!(architecture, "qwen3" | "gemma3") {
            self.tensor("blk.0.attn_q_norm.weight", &[4], F32);
            self.tensor("blk.0.attn_k_norm.weight", &[4], F32);
        }
        if olmo {
            self.tensor("blk.0.attn_q_norm.weight", &[8], F32);
            self.tensor("blk.0.attn_k_norm.weight", &[4], F32);
        }
        if olmo || architecture.starts_with("gemma") {
            self.tensor("blk.0.post_attention_norm.weight", &[WIDTH], F32);
            self.tensor("blk.0.post_ffw_norm.weight", &[WIDTH], F32);
        }
    }

    /// Gives `key` another value, or adds it.
    pub(crate) fn set(&mut self, key: &str, value: Value) -> &mut Self {
        match self.pairs.iter_mut().find(|(k, _)| k == key.as_bytes()) {
            Some(pair) => pair.1 = value,
            None => self.pairs.push((key.as_bytes().to_vec(), value)),
        }
        self
    }

    /// Takes `key` away.
    pub(crate) fn unset(&mut self, key: &str) {
        self.pairs.retain(|(k, _)| k != key.as_bytes());
    }

    /// Adds a tensor.
    pub(crate) fn tensor(&mut self, name: &str, dims: &[u64], ty: u32) {
        self.tensors.push(Tensor {
            name: name.as_bytes().to_vec(),
            dims: dims.to_vec(),
            ty,
            offset: None,
        });
    }

    /// The tensor of this name.
    pub(crate) fn find(&mut self, name: &str) -> &mut Tensor {
        let found = self.tensors.iter_mut().find(|t| t.name == name.as_bytes());
        found.unwrap_or_else(|| panic!("no tensor {name}"))
    }

    /// Everything before the data's padding.
    pub(crate) fn header(&self) -> Vec<u8> {
        let mut out = self.magic.to_vec();
        out.extend(self.version.to_le_bytes());
        let tensors = self.tensor_count.unwrap_or(self.tensors.len() as u64);
        out.extend(tensors.to_le_bytes());
        let pairs = self.pair_count.unwrap_or(self.pairs.len() as u64);
        out.extend(pairs.to_le_bytes());
        for (key, value) in &self.pairs {
            out.extend(string(key));
            out.extend(value.ty.to_le_bytes());
            out.extend(&value.bytes);
        }
        let mut next = 0;
        for tensor in &self.tensors {
            out.extend(string(&tensor.name));
            out.extend((tensor.dims.len() as u32).to_le_bytes());
            out.extend(tensor.dims.iter().flat_map(|n| n.to_le_bytes()));
            out.extend(tensor.ty.to_le_bytes());
            out.extend(tensor.offset.unwrap_or(next).to_le_bytes());
            next += tensor.data_len();
        }
        out
    }

    /// The whole file.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut out = self.header();
        out.resize(out.len().next_multiple_of(32), 0);
        let data: u64 = self.tensors.iter().map(Tensor::data_len).sum();
        let ones = 1.0_f32.to_le_bytes();
        out.extend(ones.iter().cycle().take(data as usize));
        out
    }
}

impl Tensor {
    /// Bytes up to the next tensor, for types of F32 and sizes that a test may have made absurd.
    fn data_len(&self) -> u64 {
        let values = self
            .dims
            .iter()
            .fold(1, |n: u64, dim| n.saturating_mul(*dim));
        let bytes = values.min(1 << 14) * 4;
        bytes.next_multiple_of(32)
    }
}
