//! The text of the kernels that multiply matrices.

use gogrid_units::WeightType;

use crate::formats::{Code, FUNCTIONS};

/// How the columns of a row are shared out between invocations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reduction {
    /// One invocation has a row to itself.
    Alone,
    /// This many invocations have a row, and add up through the workgroup's memory: 8, 16, 32 or 64.
    Shared(u32),
    /// A workgroup has a row, and its subgroups add up by themselves, whatever their size.
    Subgroups,
}

/// What becomes of a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Output {
    /// It is stored, with the bias where there is one.
    Store,
    /// It is multiplied, and added to what is there.
    Add,
    /// The rows of a matrix are gates and then as many others: the gate's product goes through SiLU, and
    /// is multiplied by the other's.
    Silu,
    /// The same with the tanh approximation of GELU.
    GeluTanh,
}

impl Output {
    fn is_gated(self) -> bool {
        matches!(self, Self::Silu | Self::GeluTanh)
    }
}

/// A mat-vec: rows of the residual stream against all rows of a matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct MatVec {
    pub(crate) ty: WeightType,
    /// Rows of the input: 1, 2, 4 or 8.
    pub(crate) batch: usize,
    /// Whether the input is normed first (RMS norm).
    pub(crate) is_normed: bool,
    pub(crate) output: Output,
    pub(crate) reduction: Reduction,
}

/// Invocations of a mat-vec's workgroup.
pub(crate) const GROUP: u32 = 64;
/// Rows of the matrix that invocations do at once.
pub(crate) const ROWS: u32 = 2;

impl MatVec {
    /// Invocations that share a row.
    fn lanes(&self) -> u32 {
        match self.reduction {
            Reduction::Alone => 1,
            Reduction::Shared(lanes) => lanes,
            Reduction::Subgroups => GROUP,
        }
    }

    /// Rows of output that a workgroup gives.
    pub(crate) fn rows_per_group(&self) -> u32 {
        GROUP / self.lanes() * self.outputs()
    }

    /// Rows of output of the invocations that share a row.
    fn outputs(&self) -> u32 {
        match self.output.is_gated() {
            true => ROWS / 2,
            false => ROWS,
        }
    }

    /// The values that are added up: products of each row and each row of the input, and the squares.
    fn sums(&self) -> Vec<String> {
        let mut sums = Vec::new();
        for row in 0..ROWS {
            sums.extend((0..self.batch).map(|c| format!("a{row}_{c}")));
        }
        if self.is_normed {
            sums.extend((0..self.batch).map(|c| format!("n{c}")));
        }
        sums
    }

    /// The kernel.
    pub(crate) fn text(&self) -> String {
        let (lanes, outputs) = (self.lanes(), self.outputs());
        let sums = self.sums();
        let declared: String = sums
            .iter()
            .map(|sum| format!("var {sum} = 0.0; "))
            .collect();
        let kept = match self.reduction {
            Reduction::Alone => 1,
            Reduction::Shared(_) | Reduction::Subgroups => GROUP as usize,
        };
        let inputs: String = (0..self.batch)
            .map(|c| format!("let x{c} = p.from_ + min({c}u, p.batch - 1u) * p.ld_in; "))
            .collect();
        let rows: String = (0..ROWS)
            .map(|row| format!("let r{row} = {} * p.units; ", self.weight_row(row)))
            .collect();
        let builtins = match self.reduction {
            Reduction::Subgroups => {
                ", @builtin(subgroup_id) sid: u32, @builtin(num_subgroups) subgroups: u32, \
                 @builtin(subgroup_invocation_id) slane: u32"
            }
            _ => "",
        };
        format!(
            "{HEADER}{FUNCTIONS}{ACTIVATIONS}
var<workgroup> part: array<f32, {}>;
@compute @workgroup_size({GROUP})
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) lid: u32{builtins}) {{
    let lane = lid % {lanes}u;
    let first = ((wg.x + p.base) * {}u + lid / {lanes}u) * {outputs}u;
    {rows}
    {inputs}
    {declared}
    {}
{}
}}
",
            kept * sums.len(),
            GROUP / lanes,
            match self.reduction {
                Reduction::Alone => self.units(),
                Reduction::Shared(_) | Reduction::Subgroups => self.eighths(lanes),
            },
            self.ending(&sums),
        )
    }

    /// The matrix's row of the `row`th product; past the last it is the last.
    fn weight_row(&self, row: u32) -> String {
        match self.output.is_gated() {
            // The first half of them are gates.
            true if row < ROWS / 2 => format!("min(first + {row}u, p.rows - 1u)"),
            true => format!("(p.first + min(first + {}u, p.rows - 1u))", row - ROWS / 2),
            false => format!("min(first + {row}u, p.rows - 1u)"),
        }
    }

    /// The products of an invocation that has a row to itself: unit by unit of its columns.
    fn units(&self) -> String {
        format!("for (var u = 0u; u < p.units; u++) {{\n{}}}", self.unit())
    }

    /// The products of invocations that share a row: each has eight columns, then those that come after all
    /// the others', so that neighbours read neighbouring words of weights and input.
    fn eighths(&self, lanes: u32) -> String {
        let code = Code::of(self.ty);
        let mut text = format!(
            "for (var v = lane; v < 4u * p.units; v += {lanes}u) {{
             let u = v >> 2u; let i = v & 3u; var qa: vec4<f32>; var qb: vec4<f32>;\n"
        );
        if self.is_normed {
            text += "let na = vectors[p.norm + 2u * v]; let nb = vectors[p.norm + 2u * v + 1u];\n";
        }
        for c in 0..self.batch {
            text +=
                &format!("var xa{c} = xs[x{c} + 2u * v]; var xb{c} = xs[x{c} + 2u * v + 1u];\n");
            if self.is_normed {
                text += &format!("n{c} += dot(xa{c}, xa{c}) + dot(xb{c}, xb{c}); ");
                text += &format!("xa{c} *= na; xb{c} *= nb;\n");
            }
        }
        for row in 0..ROWS {
            let suffix = row.to_string();
            text += &format!(
                "{{ let g{row} = r{row} + u; {}\n",
                code.load_scales(&suffix)
            );
            text += &code.eight_alone(&suffix, "i");
            text += &match code.halves {
                1 => format!("let d = d{row}0; let m = m{row}0;\n"),
                _ => format!(
                    "let d = select(d{row}0, d{row}1, i >= 2u); let m = select(m{row}0, m{row}1, i >= 2u);\n"
                ),
            };
            for c in 0..self.batch {
                text += &format!("a{row}_{c} += d * (dot(qa, xa{c}) + dot(qb, xb{c})); ");
                if code.has_minimum {
                    text += &format!("a{row}_{c} += m * dot(xa{c} + xb{c}, vec4<f32>(1.0)); ");
                }
            }
            text += "}\n";
        }
        text + "}"
    }

    /// The products of one unit of columns.
    fn unit(&self) -> String {
        let code = Code::of(self.ty);
        let mut text = String::new();
        for row in 0..ROWS {
            text += &format!("let g{row} = r{row} + u; {}\n", code.load(&row.to_string()));
        }
        text += "var qa: vec4<f32>; var qb: vec4<f32>;\n";
        let eights = 4 / code.halves;
        for half in 0..code.halves {
            text += &self.half(&code, half, half * eights..(half + 1) * eights);
        }
        text
    }

    /// The products of the columns that have one scale.
    fn half(&self, code: &Code, half: usize, eights: std::ops::Range<usize>) -> String {
        let mut text = "{\n".to_owned();
        for c in 0..self.batch {
            text += &format!("var t{c} = vec4<f32>(0.0); ");
            text += &(0..ROWS)
                .map(|row| format!("var s{row}_{c} = 0.0; "))
                .collect::<String>();
        }
        for i in eights {
            text += &self.input(i, code.has_minimum);
            for row in 0..ROWS {
                text += &code.eight(&row.to_string(), &format!("{i}u"));
                for c in 0..self.batch {
                    text += &format!("s{row}_{c} += dot(qa, xa{i}_{c}) + dot(qb, xb{i}_{c}); ");
                }
            }
        }
        for c in 0..self.batch {
            for row in 0..ROWS {
                text += &format!("a{row}_{c} += d{row}{half} * s{row}_{c}; ");
                if code.has_minimum {
                    text += &format!("a{row}_{c} += m{row}{half} * dot(t{c}, vec4<f32>(1.0)); ");
                }
            }
        }
        text + "}\n"
    }

    /// Eight columns of each row of the input.
    fn input(&self, i: usize, has_minimum: bool) -> String {
        let mut text = String::new();
        if self.is_normed {
            text += &format!("let na{i} = vectors[p.norm + 8u * u + {}u]; ", 2 * i);
            text += &format!("let nb{i} = vectors[p.norm + 8u * u + {}u];\n", 2 * i + 1);
        }
        for c in 0..self.batch {
            for (part, at) in [("a", 2 * i), ("b", 2 * i + 1)] {
                let x = format!("x{part}{i}_{c}");
                text += &format!("var {x} = xs[x{c} + 8u * u + {at}u]; ");
                if self.is_normed {
                    text += &format!("n{c} += dot({x}, {x}); {x} *= n{part}{i}; ");
                }
                if has_minimum {
                    text += &format!("t{c} += {x}; ");
                }
            }
            text.push('\n');
        }
        text
    }

    /// Adds up what invocations have, and gives the results.
    fn ending(&self, sums: &[String]) -> String {
        let count = sums.len();
        let keep = |slot: &str, value: &dyn Fn(&str) -> String| -> String {
            let kept = sums.iter().enumerate();
            kept.map(|(k, sum)| format!("part[{slot} * {count}u + {k}u] = {}; ", value(sum)))
                .collect()
        };
        let outputs = self.outputs();
        match self.reduction {
            Reduction::Alone => {
                let mut text = String::new();
                for row in 0..outputs {
                    for c in 0..self.batch {
                        let sum = |k: usize| sums[k].clone();
                        text += &self.give(row, c, &sum);
                    }
                }
                text
            }
            Reduction::Shared(lanes) => {
                let kept = keep("lid", &|sum| sum.to_owned());
                self.ending_by(&format!("{kept}\nworkgroupBarrier();"), count, lanes)
            }
            Reduction::Subgroups => {
                let added: String = sums
                    .iter()
                    .map(|sum| format!("let w{sum} = subgroupAdd({sum}); "))
                    .collect();
                let kept = keep("sid", &|sum| format!("w{sum}"));
                let head = format!("{added}\nif (slane == 0u) {{ {kept} }}\nworkgroupBarrier();");
                self.ending_by(&head, count, 0)
            }
        }
    }

    /// Gives results by as many invocations, from the sums in the workgroup's memory: of `lanes`
    /// invocations, or of all subgroups.
    fn ending_by(&self, head: &str, count: usize, lanes: u32) -> String {
        let (outputs, batch) = (self.outputs(), self.batch);
        let (groups, terms) = match lanes {
            0 => (1, "subgroups".to_owned()),
            lanes => (GROUP / lanes, format!("{lanes}u")),
        };
        let first_slot = match lanes {
            0 => "0u".to_owned(),
            lanes => format!("q * {lanes}u"),
        };
        let all = groups * outputs * batch as u32;
        let rows_of_group = outputs * batch as u32;
        let add = |name: &str, k: &str| {
            format!(
                "var {name} = 0.0; for (var l = 0u; l < {terms}; l++) \
                 {{ {name} += part[({first_slot} + l) * {count}u + {k}]; }}\n"
            )
        };
        let mut sums = add("value", &format!("row * {batch}u + c"));
        if self.output.is_gated() {
            sums += &add("other", &format!("(row + {}u) * {batch}u + c", ROWS / 2));
        }
        if self.is_normed {
            sums += &add("squares", &format!("{}u + c", ROWS as usize * batch));
        }
        format!(
            "{head}
    for (var j = lid; j < {all}u; j += {GROUP}u) {{
        let q = j / {rows_of_group}u; let row = (j % {rows_of_group}u) / {batch}u; let c = j % {batch}u;
        {sums}
        let at = ((wg.x + p.base) * {groups}u + q) * {outputs}u + row;
        {}
    }}",
            self.store("c")
        )
    }

    /// Gives one result of an invocation that is alone.
    fn give(&self, row: u32, c: usize, sum: &dyn Fn(usize) -> String) -> String {
        let batch = self.batch;
        let mut text = format!("{{ var value = {}; ", sum(row as usize * batch + c));
        if self.output.is_gated() {
            let other = sum((row + ROWS / 2) as usize * batch + c);
            text += &format!("var other = {other}; ");
        }
        if self.is_normed {
            text += &format!("let squares = {}; ", sum(ROWS as usize * batch + c));
        }
        text += &format!("let at = first + {row}u; let c = {c}u; ");
        text + &self.store("c") + "}\n"
    }

    /// Stores `value` (and `other`, which is multiplied in) of row `at`.
    fn store(&self, c: &str) -> String {
        let mut text = format!("if (at < p.rows && {c} < p.batch) {{ ");
        if self.is_normed {
            text += "let scale = inverseSqrt(squares * p.per_col + p.epsilon); value *= scale; ";
            if self.output.is_gated() {
                text += "other *= scale; ";
            }
        }
        let to = format!("result[{c} * p.ld_out + p.out + at]");
        text += &match self.output {
            Output::Store => format!("{to} = value + bias(at);"),
            Output::Add => format!("{to} += p.scale * (value + bias(at));"),
            Output::Silu => format!("{to} = silu(value) * other;"),
            Output::GeluTanh => format!("{to} = gelu(value) * other;"),
        };
        text + " }"
    }
}

/// A product of many rows, by tiles of 64 rows of the matrix and 64 of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct MatMat {
    pub(crate) ty: WeightType,
    pub(crate) is_normed: bool,
    /// Whether the product is added to what is there, instead of stored.
    pub(crate) is_added: bool,
}

/// Rows of a tile, of the matrix and of the input.
pub(crate) const TILE: u32 = 64;

impl MatMat {
    /// The kernel.
    pub(crate) fn text(&self) -> String {
        let code = Code::of(self.ty);
        let scaled = scale_of_eighth(&code);
        let (norm, scale) = match self.is_normed {
            true => (
                "let at = p.norm + 8u * u + 2u * i; xa *= vectors[at]; xb *= vectors[at + 1u];",
                "value *= rms[p.rms + c];",
            ),
            false => ("", ""),
        };
        let store = self.store();
        format!(
            "{HEADER}{FUNCTIONS}
@group(0) @binding(5) var<storage, read> rms: array<f32>;
var<workgroup> wt: array<f32, 2048>;
var<workgroup> xt: array<f32, 2048>;
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) lid: u32) {{
    let row0 = (wg.x + p.base) * 64u;
    let col0 = wg.y * 64u;
    let r = lid >> 2u; let i = lid & 3u;
    let g_row = (p.first + min(row0 + r, p.rows - 1u)) * p.units;
    let x_row = p.from_ + min(col0 + r, p.batch - 1u) * p.ld_in;
    let ty = lid >> 4u; let tx = lid & 15u;
    var a0 = vec4<f32>(0.0); var a1 = a0; var a2 = a0; var a3 = a0;
    for (var u = 0u; u < p.units; u++) {{
        let g_ = g_row + u;
        {}
        {scaled}
        var qa: vec4<f32>; var qb: vec4<f32>;
        {}
        qa = qa * d + vec4<f32>(m); qb = qb * d + vec4<f32>(m);
        var xa = xs[x_row + 8u * u + 2u * i]; var xb = xs[x_row + 8u * u + 2u * i + 1u];
        {norm}
        workgroupBarrier();
        let k0 = 8u * i * 64u + r;
        wt[k0 + 0u] = qa.x; wt[k0 + 256u] = qb.x;
        xt[k0 + 0u] = xa.x; xt[k0 + 256u] = xb.x;
        wt[k0 + 64u] = qa.y; wt[k0 + 320u] = qb.y;
        xt[k0 + 64u] = xa.y; xt[k0 + 320u] = xb.y;
        wt[k0 + 128u] = qa.z; wt[k0 + 384u] = qb.z;
        xt[k0 + 128u] = xa.z; xt[k0 + 384u] = xb.z;
        wt[k0 + 192u] = qa.w; wt[k0 + 448u] = qb.w;
        xt[k0 + 192u] = xa.w; xt[k0 + 448u] = xb.w;
        workgroupBarrier();
        for (var k = 0u; k < 32u; k++) {{
            let wi = k * 64u + 4u * ty; let xi = k * 64u + 4u * tx;
            let w = vec4<f32>(wt[wi], wt[wi + 1u], wt[wi + 2u], wt[wi + 3u]);
            let x = vec4<f32>(xt[xi], xt[xi + 1u], xt[xi + 2u], xt[xi + 3u]);
            a0 += w * x.x; a1 += w * x.y; a2 += w * x.z; a3 += w * x.w;
        }}
    }}
    var sums = array<vec4<f32>, 4>(a0, a1, a2, a3);
    for (var j = 0u; j < 4u; j++) {{
        let c = col0 + tx * 4u + j;
        for (var k = 0u; k < 4u; k++) {{
            let at = row0 + ty * 4u + k;
            if (c < p.batch && at < p.rows) {{
                var value = sums[j][k];
                {scale}
                result[c * p.ld_out + p.out + at] {store};
            }}
        }}
    }}
}}
",
            code.load("_"),
            code.eight("_", "i"),
        )
    }
}

impl MatMat {
    /// What becomes of `value`.
    fn store(&self) -> &'static str {
        match self.is_added {
            true => "+= p.scale * (value + bias(at))",
            false => "= value + bias(at)",
        }
    }
}

/// Scale and minimum of columns `8 i` to `8 i + 7`.
fn scale_of_eighth(code: &Code) -> &'static str {
    match code.halves {
        1 => "let d = d_0; let m = m_0;",
        _ => "let d = select(d_0, d_1, i >= 2u); let m = select(m_0, m_1, i >= 2u);",
    }
}

/// What both kinds begin with. The planes are bound twice, to be read by words and by four of them.
const HEADER: &str = "
struct P {
    base: u32, rows: u32, units: u32, batch: u32,
    high: u32, scales: u32, blocks: u32, first: u32,
    ld_in: u32, ld_out: u32, out: u32, norm: u32,
    bias: u32, epsilon: f32, per_col: f32, from_: u32,
    rms: u32, scale: f32,
}
var<immediate> p: P;
@group(0) @binding(0) var<storage, read> w4: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read> w1: array<u32>;
@group(0) @binding(2) var<storage, read> xs: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> vectors: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> result: array<f32>;
fn bias(at: u32) -> f32 {
    if (p.bias == 0xffffffffu) { return 0.0; }
    let i = p.bias + at;
    return vectors[i >> 2u][i & 3u];
}
";

/// The activations of a gate.
pub(crate) const ACTIVATIONS: &str = "
fn silu(x: f32) -> f32 { return x / (1.0 + exp(-x)); }
fn gelu(x: f32) -> f32 {
    let inner = 0.7978845608028654 * (x + 0.044715 * x * x * x);
    return 0.5 * x * (1.0 + tanh(clamp(inner, -20.0, 20.0)));
}
";
