//! The text of the kernels that are no products.

use gogrid_kernels::capability::KV_MAX;
use gogrid_units::WeightType;

use crate::formats::{Code, FUNCTIONS};
use crate::limits::SLABS_BOUND;
use crate::products::ACTIVATIONS;

/// Rows of the embedding table to the residual stream.
pub(crate) fn embed(ty: WeightType) -> String {
    let code = Code::of(ty);
    let eights: String = (0..4)
        .map(|i| {
            let half = i * code.halves / 4;
            format!(
                "{}\nqa = (qa * d_{half} + vec4<f32>(m_{half})) * p.scale;
                 qb = (qb * d_{half} + vec4<f32>(m_{half})) * p.scale;
                 for (var k = 0u; k < 4u; k++) {{
                     let at = 32u * u + {}u + k;
                     if (at < p.cols) {{ x[row * p.ld + at] = qa[k]; }}
                     if (at + 4u < p.cols) {{ x[row * p.ld + at + 4u] = qb[k]; }}
                 }}\n",
                code.eight("_", &format!("{i}u")),
                8 * i
            )
        })
        .collect();
    format!(
        "
struct P {{
    base: u32, first: u32, rows: u32, units: u32,
    high: u32, scales: u32, blocks: u32, cols: u32,
    ld: u32, scale: f32, ids: u32,
}}
var<immediate> p: P;
@group(0) @binding(0) var<storage, read> w4: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read> w1: array<u32>;
@group(0) @binding(2) var<storage, read> info: array<u32>;
@group(0) @binding(3) var<storage, read_write> x: array<f32>;
{FUNCTIONS}
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) lid: u32) {{
    let row = wg.x + p.base;
    let id = info[p.ids + row];
    if (id < p.first || id - p.first >= p.rows) {{ return; }}
    for (var u = lid; u < p.units; u += 64u) {{
        let g_ = (id - p.first) * p.units + u;
        {}
        var qa: vec4<f32>; var qb: vec4<f32>;
        {eights}
    }}
}}
",
        code.load("_")
    )
}

/// Adds up a value of each invocation of a group of this many.
fn add_up(invocations: usize) -> String {
    SUM.replace("64", &invocations.to_string())
        .replace("32u", &format!("{}u", invocations / 2))
}

/// The same for 64.
const SUM: &str = "
var<workgroup> sum: array<f32, 64>;
fn add_up(lid: u32, value: f32) -> f32 {
    workgroupBarrier();
    sum[lid] = value;
    workgroupBarrier();
    for (var step = 32u; step > 0u; step = step >> 1u) {
        if (lid < step) { sum[lid] += sum[lid + step]; }
        workgroupBarrier();
    }
    return sum[0];
}
";

/// What rows are scaled by when they are normed: one over the root of the mean of their squares.
pub(crate) fn root_mean_square() -> String {
    format!(
        "
struct P {{ base: u32, ld: u32, cols: u32, epsilon: f32 }}
var<immediate> p: P;
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> rms: array<f32>;
{}
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) lid: u32) {{
    let row = wg.x + p.base;
    var squares = 0.0;
    for (var i = lid; i < p.cols; i += 256u) {{ let v = x[row * p.ld + i]; squares += v * v; }}
    let all = add_up(lid, squares);
    if (lid == 0u) {{ rms[row] = inverseSqrt(all / f32(p.cols) + p.epsilon); }}
}}
",
        add_up(256)
    )
}

/// Adds normed rows to the residual stream.
pub(crate) fn add_normed() -> String {
    format!(
        "
struct P {{ base: u32, ld: u32, cols: u32, epsilon: f32, norm: u32 }}
var<immediate> p: P;
@group(0) @binding(0) var<storage, read> y: array<f32>;
@group(0) @binding(1) var<storage, read> vectors: array<f32>;
@group(0) @binding(2) var<storage, read_write> x: array<f32>;
{}
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) lid: u32) {{
    let row = (wg.x + p.base) * p.ld;
    var squares = 0.0;
    for (var i = lid; i < p.cols; i += 256u) {{ let v = y[row + i]; squares += v * v; }}
    let all = add_up(lid, squares);
    let scale = inverseSqrt(all / f32(p.cols) + p.epsilon);
    for (var i = lid; i < p.cols; i += 256u) {{ x[row + i] += y[row + i] * scale * vectors[p.norm + i]; }}
}}
",
        add_up(256)
    )
}

/// Norms the first columns of rows, and those after them.
pub(crate) fn norm_rows() -> String {
    format!(
        "
struct P {{
    base: u32, ld: u32, epsilon: f32, queries: u32,
    q_norm: u32, keys: u32, k_norm: u32,
}}
var<immediate> p: P;
@group(0) @binding(0) var<storage, read_write> x: array<f32>;
@group(0) @binding(1) var<storage, read> vectors: array<f32>;
{}
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) lid: u32) {{
    let is_keys = wg.y == 1u;
    let cols = select(p.queries, p.keys, is_keys);
    let norm = select(p.q_norm, p.k_norm, is_keys);
    let begin = (wg.x + p.base) * p.ld + select(0u, p.queries, is_keys);
    var squares = 0.0;
    for (var i = lid; i < cols; i += 256u) {{ let v = x[begin + i]; squares += v * v; }}
    let all = add_up(lid, squares);
    let scale = inverseSqrt(all / f32(cols) + p.epsilon);
    for (var i = lid; i < cols; i += 256u) {{ x[begin + i] *= scale * vectors[norm + i]; }}
}}
",
        add_up(256)
    )
}

/// The activation of gates, times what they let through: `[rows, 2 n]` with the gates first.
pub(crate) fn gate(is_silu: bool) -> String {
    let activation = if is_silu { "silu" } else { "gelu" };
    format!(
        "
struct P {{ base: u32, ld: u32, cols: u32, other: u32 }}
var<immediate> p: P;
@group(0) @binding(0) var<storage, read_write> x: array<f32>;
{ACTIVATIONS}
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) lid: u32) {{
    let row = wg.y * p.ld;
    let at = (wg.x + p.base) * 64u + lid;
    if (at < p.cols) {{ x[row + at] = {activation}(x[row + at]) * x[row + p.other + at]; }}
}}
"
    )
}

/// Norms heads, turns queries and keys, and writes keys and values as halves to their slots.
pub(crate) fn turn_and_keep() -> String {
    fill(
        TURN_AND_KEEP,
        &[
            ("$SUM;", SUM.to_owned()),
            ("$SLABS_BOUND;", SLABS_BOUND.to_string()),
            ("$SLABS;", slabs("read_write", 4)),
            (
                "$KEEP_CASES;",
                per_slab(|slab| format!("case {slab}u: {{ slab{slab}[at] = word; }}")),
            ),
            ("$KV_MAX;", KV_MAX.to_bits().to_string()),
        ],
    )
}

/// A text with its marks replaced.
fn fill(text: &str, marks: &[(&str, String)]) -> String {
    marks.iter().fold(text.to_owned(), |text, (mark, with)| {
        text.replace(mark, with)
    })
}

const TURN_AND_KEEP: &str = "
struct P {
    base: u32, ld: u32, head_dim: u32, heads: u32,
    kv_heads: u32, q_norm: u32, k_norm: u32, epsilon: f32,
    turns: u32, pairs: u32, are_halves: u32, rows: u32,
    slots_per_slab: u32, slot_words: u32, layer: u32, first_slab: u32,
    piece: u32, values: u32, queries: u32,
}
var<immediate> p: P;
@group(0) @binding(0) var<storage, read_write> x: array<f32>;
@group(0) @binding(1) var<storage, read> vectors: array<f32>;
@group(0) @binding(2) var<storage, read> info: array<u32>;
@group(0) @binding(3) var<storage, read_write> flags: array<atomic<u32>>;
$SLABS;
$SUM;
var<workgroup> head: array<f32, 512>;
fn keep(slab: u32, at: u32, word: u32) {
    switch (slab) { $KEEP_CASES; default: {} }
}
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let row = wg.x + p.base;
    let h = wg.y;
    let begin = row * p.ld + h * p.head_dim;
    let is_query = h < p.heads;
    let is_key = !is_query && h < p.heads + p.kv_heads;
    let norm = select(select(0xffffffffu, p.k_norm, is_key), p.q_norm, is_query);
    var squares = 0.0;
    for (var i = lid; i < p.head_dim; i += 64u) {
        let v = x[begin + i];
        head[i] = v;
        squares += v * v;
    }
    let all = add_up(lid, squares);
    if (norm != 0xffffffffu) {
        let scale = inverseSqrt(all / f32(p.head_dim) + p.epsilon);
        for (var i = lid; i < p.head_dim; i += 64u) { head[i] = head[i] * scale * vectors[norm + i]; }
    }
    workgroupBarrier();
    if (is_query || is_key) {
        for (var i = lid; i < p.pairs; i += 64u) {
            let a = select(2u * i, i, p.are_halves == 1u);
            let b = select(2u * i + 1u, i + p.pairs, p.are_halves == 1u);
            let turn = p.turns + 2u * (row * p.pairs + i);
            let c = bitcast<f32>(info[turn]); let s = bitcast<f32>(info[turn + 1u]);
            let va = head[a]; let vb = head[b];
            head[a] = va * c - vb * s;
            head[b] = va * s + vb * c;
        }
    }
    workgroupBarrier();
    if (is_query) {
        if (p.queries == 1u) {
            for (var i = lid; i < p.head_dim; i += 64u) { x[begin + i] = head[i]; }
        }
        return;
    }
    let place = p.rows + 2u * row;
    let index = info[place + 1u];
    let slot = info[info[place] + (index >> 5u)];
    let slab = slot / p.slots_per_slab - p.first_slab;
    if (slot / p.slots_per_slab < p.first_slab || slab >= $SLABS_BOUND;u) { return; }
    let kv_head = select(h - p.heads - p.kv_heads, h - p.heads, is_key);
    let words = p.head_dim >> 1u;
    let to = (slot % p.slots_per_slab) * p.slot_words + p.layer + select(p.values, 0u, is_key)
        + ((index & 31u) * p.kv_heads + kv_head) * words;
    for (var i = lid; i < words; i += 64u) {
        let pair = vec2<f32>(head[2u * i], head[2u * i + 1u]);
        let bits = bitcast<vec2<u32>>(pair) & vec2<u32>(0x7fffffffu);
        if (any(bits > vec2<u32>($KV_MAX;u))) { atomicMin(&flags[row], 2u * p.piece); }
        keep(slab, to + i, pack2x16float(pair));
    }
}
";

fn slabs(access: &str, first_binding: usize) -> String {
    per_slab(|slab| {
        format!(
            "@group(0) @binding({}) var<storage, {access}> slab{slab}: array<u32>;\n",
            first_binding + slab
        )
    })
}

fn per_slab(text: impl Fn(usize) -> String) -> String {
    (0..SLABS_BOUND).map(text).collect()
}

/// Attention of a tile of queries, rows of one sequence by heads that share their keys, over a part of
/// the tokens (FlashAttention's recurrence, Dao et al. 2022, and its split for decoding).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Attend {
    pub(crate) head_dim: usize,
    /// Rows of a tile.
    pub(crate) rows: usize,
    /// Query heads of a tile.
    pub(crate) heads: usize,
}

impl Attend {
    /// The tile for heads of this width of which so many share their keys: as many queries as fit into
    /// the workgroup's memory.
    pub(crate) fn of(head_dim: usize, sharing: usize) -> Self {
        let queries = match head_dim {
            0..=128 => 8,
            129..=256 => 4,
            _ => 2,
        };
        let heads = sharing.min(queries);
        Self {
            head_dim,
            rows: (queries / heads).max(1),
            heads,
        }
    }

    /// The kernel.
    pub(crate) fn text(&self) -> String {
        let Self {
            head_dim,
            rows,
            heads,
        } = *self;
        let (queries, words) = (rows * heads, head_dim / 2);
        let each = |text: &dyn Fn(usize) -> String| (0..queries).map(text).collect::<String>();
        fill(
            ATTEND,
            &[
                ("$SLABS_BOUND;", SLABS_BOUND.to_string()),
                ("$head_dim;", head_dim.to_string()),
                ("$heads;", heads.to_string()),
                ("$queries;", queries.to_string()),
                ("$words;", words.to_string()),
                ("$SLABS;", slabs("read", 3)),
                ("$QUERY_VALUES;", (queries * head_dim).to_string()),
                ("$QUERY_WORDS;", (queries * words).to_string()),
                ("$SCORES;", (queries * 32).to_string()),
                ("$PART_VALUES;", (head_dim + 2).to_string()),
                (
                    "$PAIR_CASES;",
                    per_slab(|slab| {
                        format!("case {slab}u: {{ return unpack2x16float(slab{slab}[at]); }}")
                    }),
                ),
                ("$SUMS;", each(&|j| format!("var s{j} = vec2<f32>(0.0); "))),
                (
                    "$ADD;",
                    each(&|j| format!("s{j} += weight[{}u + t] * v; ", j * 32)),
                ),
                (
                    "$KEEP;",
                    each(&|j| {
                        let at = format!("{}u + w", j * words);
                        format!("acc[{at}] = acc[{at}] * correction[{j}u] + s{j}; ")
                    }),
                ),
            ],
        )
    }
}

const ATTEND: &str = "
struct P {
    base: u32, ld: u32, tiles: u32, heads: u32,
    kv_heads: u32, sharing: u32, head_tiles: u32, scale: f32,
    softcap: f32, window: u32, slots_per_slab: u32, slot_words: u32,
    layer: u32, values: u32, first_slab: u32, blocks_per_split: u32,
    splits: u32, first_split: u32, ld_out: u32, part_row: u32,
    own_splits: u32,
}
var<immediate> p: P;
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> info: array<u32>;
@group(0) @binding(2) var<storage, read_write> result: array<f32>;
$SLABS;
var<workgroup> q: array<f32, $QUERY_VALUES;>;
var<workgroup> acc: array<vec2<f32>, $QUERY_WORDS;>;
var<workgroup> weight: array<f32, $SCORES;>;
var<workgroup> greatest: array<f32, $queries;>;
var<workgroup> total: array<f32, $queries;>;
var<workgroup> correction: array<f32, $queries;>;
fn pair(slab: u32, at: u32) -> vec2<f32> {
    switch (slab) { $PAIR_CASES; default: { return vec2<f32>(0.0); } }
}
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let split = (wg.x + p.base) % p.own_splits;
    let tile = p.tiles + 4u * ((wg.x + p.base) / p.own_splits);
    let row0 = info[tile]; let count = info[tile + 1u];
    let table = info[tile + 2u]; let start = info[tile + 3u];
    let kv_head = wg.y / p.head_tiles;
    let first_head = (wg.y % p.head_tiles) * $heads;u;
    for (var i = lid; i < $QUERY_VALUES;u; i += 64u) {
        let j = i / $head_dim;u;
        let row = row0 + min(j / $heads;u, count - 1u);
        let head = kv_head * p.sharing + min(first_head + j % $heads;u, p.sharing - 1u);
        q[i] = x[row * p.ld + head * $head_dim;u + i % $head_dim;u] * p.scale;
    }
    for (var i = lid; i < $QUERY_WORDS;u; i += 64u) { acc[i] = vec2<f32>(0.0); }
    if (lid < $queries;u) { greatest[lid] = -1e30; total[lid] = 0.0; }
    let last = (start + count - 1u) >> 5u;
    var first = 0u;
    if (p.window != 0u && start + 1u > p.window) { first = (start + 1u - p.window) >> 5u; }
    first += split * p.blocks_per_split;
    let end = min(first + p.blocks_per_split, last + 1u);
    let row_words = p.kv_heads * $words;u;
    for (var block = first; block < end; block++) {
        let slot = info[table + block];
        let slab = slot / p.slots_per_slab - p.first_slab;
        if (slot / p.slots_per_slab < p.first_slab || slab >= $SLABS_BOUND;u) { continue; }
        let keys = (slot % p.slots_per_slab) * p.slot_words + p.layer + kv_head * $words;u;
        workgroupBarrier();
        for (var i = lid; i < $SCORES;u; i += 64u) {
            let j = i >> 5u; let t = i & 31u;
            let at = block * 32u + t; let own = start + j / $heads;u;
            var score = -1e30;
            if (at <= own && (p.window == 0u || at + p.window > own)) {
                score = 0.0;
                let begin = keys + t * row_words;
                for (var w = 0u; w < $words;u; w++) {
                    let k = pair(slab, begin + w);
                    score += q[j * $head_dim;u + 2u * w] * k.x + q[j * $head_dim;u + 2u * w + 1u] * k.y;
                }
                if (p.softcap > 0.0) { score = p.softcap * tanh(clamp(score / p.softcap, -20.0, 20.0)); }
            }
            weight[i] = score;
        }
        workgroupBarrier();
        if (lid < $queries;u) {
            var most = greatest[lid];
            for (var t = 0u; t < 32u; t++) { most = max(most, weight[lid * 32u + t]); }
            let factor = exp(greatest[lid] - most);
            var sum = 0.0;
            for (var t = 0u; t < 32u; t++) {
                let score = weight[lid * 32u + t];
                let part = select(exp(score - most), 0.0, score == -1e30);
                weight[lid * 32u + t] = part;
                sum += part;
            }
            greatest[lid] = most;
            total[lid] = total[lid] * factor + sum;
            correction[lid] = factor;
        }
        workgroupBarrier();
        for (var w = lid; w < $words;u; w += 64u) {
            $SUMS;
            for (var t = 0u; t < 32u; t++) {
                if (block * 32u + t > start + count - 1u) { break; }
                let v = pair(slab, keys + p.values + t * row_words + w);
                $ADD;
            }
            $KEEP;
        }
    }
    workgroupBarrier();
    for (var i = lid; i < $QUERY_WORDS;u; i += 64u) {
        let j = i / $words;u; let w = i % $words;u;
        let in_group = first_head + j % $heads;u;
        if (j / $heads;u < count && in_group < p.sharing) {
            let row = row0 + j / $heads;u; let head = kv_head * p.sharing + in_group;
            if (p.splits == 1u) {
                let value = acc[i] / total[j];
                let to = row * p.ld_out + head * $head_dim;u + 2u * w;
                result[to] = value.x; result[to + 1u] = value.y;
            } else {
                let to = (((row - p.part_row) * p.heads + head) * p.splits + p.first_split + split) * $PART_VALUES;u;
                result[to + 2u * w] = acc[i].x; result[to + 2u * w + 1u] = acc[i].y;
                if (w == 0u) { result[to + $head_dim;u] = greatest[j]; result[to + $head_dim;u + 1u] = total[j]; }
            }
        }
    }
}
";

/// Puts the parts of attention together.
pub(crate) fn merge() -> String {
    "
struct P { base: u32, heads: u32, splits: u32, head_dim: u32, ld_out: u32, part_row: u32 }
var<immediate> p: P;
@group(0) @binding(0) var<storage, read> parts: array<f32>;
@group(0) @binding(1) var<storage, read_write> result: array<f32>;
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let row = p.part_row + wg.x + p.base; let head = wg.y; let len = p.head_dim + 2u;
    let begin = ((row - p.part_row) * p.heads + head) * p.splits * len;
    var most = -1e30;
    for (var s = 0u; s < p.splits; s++) { most = max(most, parts[begin + s * len + p.head_dim]); }
    var total = 0.0;
    for (var s = 0u; s < p.splits; s++) {
        total += exp(parts[begin + s * len + p.head_dim] - most) * parts[begin + s * len + p.head_dim + 1u];
    }
    for (var d = lid; d < p.head_dim; d += 64u) {
        var value = 0.0;
        for (var s = 0u; s < p.splits; s++) {
            value += exp(parts[begin + s * len + p.head_dim] - most) * parts[begin + s * len + d];
        }
        result[row * p.ld_out + head * p.head_dim + d] = value / total;
    }
}
"
    .to_owned()
}

/// Notes the rows that hold a value that is not finite. The bits are looked at: a compiler may take it that
/// there are no such values.
pub(crate) fn watch() -> String {
    "
struct P { base: u32, ld: u32, cols: u32, note: u32 }
var<immediate> p: P;
@group(0) @binding(0) var<storage, read> x: array<u32>;
@group(0) @binding(1) var<storage, read_write> flags: array<atomic<u32>>;
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let row = wg.x + p.base;
    var found = false;
    for (var i = lid; i < p.cols; i += 256u) {
        found = found || (x[row * p.ld + i] & 0x7f800000u) == 0x7f800000u;
    }
    if (found) { atomicMin(&flags[row], p.note); }
}
"
    .to_owned()
}

/// Copies the rows that a list names, one after the other.
pub(crate) fn gather() -> String {
    "
struct P { base: u32, ld: u32, list: u32 }
var<immediate> p: P;
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> info: array<u32>;
@group(0) @binding(2) var<storage, read_write> result: array<f32>;
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let row = wg.x + p.base; let begin = info[p.list + row];
    for (var i = lid; i < p.ld; i += 64u) { result[row * p.ld + i] = x[begin * p.ld + i]; }
}
"
    .to_owned()
}

/// Caps logits softly.
pub(crate) fn softcap() -> String {
    "
struct P { base: u32, count: u32, cap: f32 }
var<immediate> p: P;
@group(0) @binding(0) var<storage, read_write> x: array<f32>;
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let at = (wg.x + p.base) * 64u + lid;
    if (at < p.count) { x[at] = p.cap * tanh(clamp(x[at] / p.cap, -20.0, 20.0)); }
}
"
    .to_owned()
}

/// The logarithm of a token's probability, from logits.
pub(crate) fn log_probs() -> String {
    format!(
        "
struct P {{ base: u32, vocab: u32, targets: u32 }}
var<immediate> p: P;
@group(0) @binding(0) var<storage, read> logits: array<f32>;
@group(0) @binding(1) var<storage, read> info: array<u32>;
@group(0) @binding(2) var<storage, read_write> result: array<f32>;
{}
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) lid: u32) {{
    let row = wg.x + p.base; let begin = row * p.vocab;
    var most = -3.0e38;
    for (var i = lid; i < p.vocab; i += 256u) {{ most = max(most, logits[begin + i]); }}
    sum[lid] = most;
    workgroupBarrier();
    for (var i = 0u; i < 256u; i++) {{ most = max(most, sum[i]); }}
    var part = 0.0;
    for (var i = lid; i < p.vocab; i += 256u) {{ part += exp(logits[begin + i] - most); }}
    let all = add_up(lid, part);
    if (lid == 0u) {{ result[row] = logits[begin + info[p.targets + row]] - most - log(all); }}
}}
",
        add_up(256)
    )
}

/// Adds up the words of a buffer, each times an odd number of its place: what was uploaded is compared.
pub(crate) fn checksum() -> String {
    "
struct P { base: u32, words: u32, begin: u32 }
var<immediate> p: P;
@group(0) @binding(0) var<storage, read> x: array<u32>;
@group(0) @binding(1) var<storage, read_write> sum: array<atomic<u32>>;
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    var own = 0u;
    let first = (wg.x + p.base) * 4096u + lid;
    for (var i = 0u; i < 64u; i++) {
        let at = first + 64u * i;
        if (at < p.words) { own += x[p.begin + at] * (2u * at + 1u); }
    }
    atomicAdd(&sum[0], own);
}
"
    .to_owned()
}
