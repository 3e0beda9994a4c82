//! Every family as testkit writes it: what the decoder says, that a GGUF file and a Hugging Face
//! directory of the same values say the same.

use gogrid_model::{
    Activation, Attention, Decoder, Model, OpenOptions, Residual, RopePairs, Vector, Weight,
};
use gogrid_testkit::{Family, RandomModel, Spec};
use gogrid_units::{Bytes, WeightType};

fn random(family: Family) -> RandomModel {
    RandomModel::new(Spec {
        family,
        weights: WeightType::F32,
        seed: 1,
    })
}

/// Opens a model of `family` from a GGUF file that is gone from its folder once it is open.
fn open(family: Family, options: &OpenOptions) -> Model {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    random(family).write_gguf(&path).unwrap();
    Model::open(&path, options).unwrap()
}

fn decoder(family: Family) -> Decoder {
    open(family, &OpenOptions::default()).decoder().clone()
}

fn windows(decoder: &Decoder) -> Vec<bool> {
    let mixers = decoder.layers.iter().map(|layer| &layer.mixer);
    mixers.map(|mixer| mixer.window.is_some()).collect()
}

/// All rows of a matrix as the file has them.
fn bytes(model: &Model, weight: &Weight) -> Vec<u8> {
    let mut out = vec![0; weight.rows * weight.row_bytes()];
    model.read_rows(weight, 0..weight.rows, &mut out).unwrap();
    out
}

#[test]
fn both_kinds_of_files_give_the_same_decoder() {
    for family in Family::ALL {
        let gguf = open(family, &OpenOptions::default());
        let folder = tempfile::tempdir().unwrap();
        random(family).write_hugging_face(folder.path(), 3).unwrap();
        let directory = Model::open(folder.path(), &OpenOptions::default()).unwrap();
        check_same(&gguf, &directory);
    }
}

fn check_same(gguf: &Model, directory: &Model) {
    let (a, b) = (gguf.decoder(), directory.decoder());
    let name = a.architecture;
    assert_eq!(name, b.architecture);
    assert_eq!((a.vocab, a.width, a.context), (b.vocab, b.width, b.context));
    assert_eq!(a.kv_groups, b.kv_groups, "{name}");
    assert_eq!(a.embedding.scale, b.embedding.scale, "{name}");
    assert_eq!(
        (a.head.softcap, a.head.scale),
        (b.head.softcap, b.head.scale),
        "{name}"
    );
    assert_eq!(a.head.norm.values, b.head.norm.values, "{name}");
    assert_eq!(a.layers.len(), b.layers.len());
    assert_eq!(gguf.weight_bytes(), directory.weight_bytes(), "{name}");
    for (a, b) in a.layers.iter().zip(&b.layers) {
        check_same_attention(name, &a.mixer, &b.mixer);
        let (a, b) = (&a.feed_forward, &b.feed_forward);
        assert_eq!(a.activation, b.activation, "{name}");
        assert_eq!(values(a.norm.as_ref()), values(b.norm.as_ref()), "{name}");
        check_same_residual(name, &a.residual, &b.residual);
        for (a, b) in [(&a.gate, &b.gate), (&a.up, &b.up), (&a.down, &b.down)] {
            assert_eq!(bytes(gguf, a), bytes(directory, b), "{name} {}", a.name);
        }
    }
    let halves = b
        .layers
        .iter()
        .all(|l| l.mixer.rope.pairs == RopePairs::Halves);
    assert!(halves, "{name}");
}

fn values(vector: Option<&Vector>) -> Option<&[f32]> {
    vector.map(|vector| vector.values.as_slice())
}

fn check_same_residual(name: &str, a: &Residual, b: &Residual) {
    let scale = |residual: &Residual| match residual {
        Residual::AddScaled(scale) => Some(*scale),
        Residual::Add | Residual::AddNormed(_) => None,
    };
    assert_eq!(scale(a), scale(b), "{name}");
    assert_eq!(values(a.norm()), values(b.norm()), "{name}");
}

fn check_same_attention(name: &str, a: &Attention, b: &Attention) {
    let shape = |m: &Attention| (m.heads, m.kv_heads, m.head_dim, m.window, m.kv_group);
    assert_eq!(shape(a), shape(b), "{name}");
    assert_eq!((a.scale, a.softcap), (b.scale, b.softcap), "{name}");
    for (a, b) in [
        (&a.norm, &b.norm),
        (&a.q_norm, &b.q_norm),
        (&a.k_norm, &b.k_norm),
    ] {
        assert_eq!(values(a.as_ref()), values(b.as_ref()), "{name}");
    }
    check_same_residual(name, &a.residual, &b.residual);
    for (a, b) in [(&a.v, &b.v), (&a.k, &b.k), (&a.q, &b.q)] {
        assert_eq!(a.bias.is_some(), b.bias.is_some(), "{name}");
    }
    assert_eq!(a.rope.frequencies.len(), b.rope.frequencies.len(), "{name}");
    for (a, b) in a.rope.frequencies.iter().zip(&b.rope.frequencies) {
        // Llama 3's factors pass through f32 on their way into a GGUF file.
        assert!((a - b).abs() <= 1e-6 * b.abs(), "{name}: {a} {b}");
    }
    assert!((a.rope.magnitude - b.rope.magnitude).abs() < 1e-6, "{name}");
}

#[test]
fn windows_follow_the_familys_pattern() {
    assert_eq!(
        windows(&decoder(Family::Llama))
            .iter()
            .filter(|w| **w)
            .count(),
        0
    );
    assert!(windows(&decoder(Family::Mistral)).iter().all(|w| *w));
    let gemma2 = windows(&decoder(Family::Gemma2));
    assert!(
        (0..gemma2.len()).all(|i| gemma2[i] == (i % 2 == 0)),
        "{gemma2:?}"
    );
    let gemma3 = windows(&decoder(Family::Gemma3));
    assert!(
        (0..gemma3.len()).all(|i| gemma3[i] == (i % 6 != 5)),
        "{gemma3:?}"
    );
    assert!(gemma3.len() >= 6, "the sixth layer sees everything");
}

#[test]
fn gemma3_rotates_windowed_layers_at_a_base_of_10000_and_never_scales_them() {
    let decoder = decoder(Family::Gemma3Scaled);
    let rope = |i: usize| &decoder.layers[i].mixer.rope.frequencies;
    let pairs = rope(0).len();
    let local = 10_000_f32.powf(-1.0 / pairs as f32);
    assert!((rope(0)[1] - local).abs() < 1e-6);
    assert_eq!(rope(0)[0], 1.0);
    assert_eq!(rope(5)[0], 0.125);
}

#[test]
fn olmo_norms_all_heads_together_and_scales_full_layers_alone() {
    let decoder = decoder(Family::Olmo3);
    let mixer = |i: usize| &decoder.layers[i].mixer;
    let (q, k) = (&mixer(0).q_norm, &mixer(0).k_norm);
    let width = |norm: &Option<Vector>| norm.as_ref().map(|norm| norm.values.len());
    let rows = mixer(0).heads * mixer(0).head_dim;
    assert_eq!(width(q), Some(rows));
    assert_eq!(width(k), Some(mixer(0).kv_heads * mixer(0).head_dim));
    assert_eq!(windows(&decoder), [true, true, true, false, true]);
    assert_eq!(mixer(0).rope.magnitude, 1.0);
    assert!((mixer(3).rope.magnitude - 1.138_629_4).abs() < 1e-6);
    let last = mixer(0).rope.frequencies.len() - 1;
    let of = |i: usize| mixer(i).rope.frequencies[last];
    assert!((of(3) / of(0) - 0.25).abs() < 1e-6, "{} {}", of(3), of(0));
}

#[test]
fn granite_multiplies() {
    let decoder = decoder(Family::Granite);
    let layer = &decoder.layers[0];
    assert_eq!(layer.mixer.scale, 0.0625);
    assert_eq!(layer.mixer.residual, Residual::AddScaled(0.22));
    assert_eq!(layer.feed_forward.residual, Residual::AddScaled(0.22));
    assert_eq!(decoder.head.scale, 1.0 / 1.25);
}

#[test]
fn every_fourth_layer_of_smollm3_turns_nothing() {
    let decoder = decoder(Family::SmolLm3);
    let turns = decoder.layers.iter().map(|layer| {
        let rope = &layer.mixer.rope;
        !rope.frequencies.is_empty()
    });
    let turns: Vec<_> = turns.collect();
    assert_eq!(turns, [true, true, true, false, true]);
}

#[test]
fn phi3_chooses_its_factors_by_the_length_of_a_sequence() {
    let opened = |context| {
        let options = OpenOptions {
            context,
            ..OpenOptions::default()
        };
        let model = open(Family::Phi3Long, &options);
        assert!(model.decoder().layers[0].mixer.rope.magnitude > 1.0);
        model.decoder().clone()
    };
    let whole = opened(None);
    let border = whole.rotations_change_above().expect("it has two sets");
    let rope = &whole.layers[0].mixer.rope;
    let (short, long) = (rope.frequencies_at(border), rope.frequencies_at(border + 1));
    let last = short.len() - 1;
    assert!(short[last] > 2.0 * long[last], "{short:?} {long:?}");
    assert_eq!(rope.frequencies_at(1), short);
    assert_eq!(rope.frequencies_at(whole.context), long);

    // Where no sequence can be long there is one set, the same one.
    let small = opened(Some(border));
    assert_eq!(small.rotations_change_above(), None);
    assert_eq!(small.layers[0].mixer.rope.frequencies_at(border), short);
    assert_eq!(
        opened(Some(border + 1)).rotations_change_above(),
        Some(border)
    );
}

#[test]
fn parts_of_fused_tensors_lie_one_after_the_other() {
    let decoder = decoder(Family::Phi3);
    for layer in &decoder.layers {
        let mixer = &layer.mixer;
        for (a, b) in [
            (&mixer.q.weight, &mixer.k.weight),
            (&mixer.k.weight, &mixer.v.weight),
            (&layer.feed_forward.gate, &layer.feed_forward.up),
        ] {
            assert_eq!(b.offset, a.offset + (a.rows * a.row_bytes()) as u64);
            assert_eq!(a.name, b.name);
        }
    }
}

#[test]
fn families_differ_where_they_should() {
    for family in Family::ALL {
        let decoder = decoder(family);
        let layer = &decoder.layers[0];
        let name = decoder.architecture;
        let gemma = name.starts_with("gemma");
        let olmo = name == "olmo2";
        assert_eq!(layer.mixer.q.bias.is_some(), name == "qwen2", "{family:?}");
        assert_eq!(
            layer.mixer.q_norm.is_some(),
            ["qwen3", "gemma3", "olmo2"].contains(&name)
        );
        assert_eq!(layer.mixer.norm.is_none(), olmo, "{family:?}");
        let has_norm_after = layer.mixer.residual.norm().is_some();
        assert_eq!(has_norm_after, gemma || olmo, "{family:?}");
        let gelu = layer.feed_forward.activation == Activation::GeluTanh;
        assert_eq!(gelu, gemma, "{family:?}");
        let root = (decoder.width as f32).sqrt();
        let scale = match name {
            "granite" => 3.0,
            _ if gemma => root,
            _ => 1.0,
        };
        assert_eq!(decoder.embedding.scale, scale);
        let adjacent = layer.mixer.rope.pairs == RopePairs::Adjacent;
        let is_adjacent = ["llama", "granite", "smollm3"].contains(&name);
        assert_eq!(adjacent, is_adjacent, "{family:?}");
        assert_eq!(
            layer.mixer.softcap.is_some(),
            name == "gemma2",
            "{family:?}"
        );
    }
}

#[test]
fn a_tied_head_is_the_table_and_counts_once() {
    let model = open(Family::Gemma3, &OpenOptions::default());
    let decoder = model.decoder();
    assert_eq!(decoder.head.output, decoder.embedding.table);
    let all: Bytes = decoder.weights().iter().map(|w| w.kept_bytes()).sum();
    let table = decoder.embedding.table.kept_bytes();
    assert_eq!(model.weight_bytes(), all - table);
}

#[test]
fn float_matrices_are_kept_as_they_are_asked_for() {
    let options = OpenOptions {
        quantise: Some(WeightType::Q8_0),
        ..OpenOptions::default()
    };
    let model = open(Family::Llama, &options);
    for weight in model.decoder().weights() {
        let fits = WeightType::Q8_0.row_bytes(weight.cols).is_some();
        let kept = if fits {
            WeightType::Q8_0
        } else {
            WeightType::F32
        };
        assert_eq!((weight.stored, weight.kept), (WeightType::F32, kept));
    }
    assert!(model.weight_bytes() < open(Family::Llama, &OpenOptions::default()).weight_bytes());
}
