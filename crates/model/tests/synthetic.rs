//! Models of a shape and no file: their sizes, their weights, and that they compute something.

use std::collections::HashSet;

use gogrid_model::{
    Decoder, Model, ModelError, ModelSource, OpenOptions, SpecialTokens, SyntheticShape, Weight,
};
use gogrid_testkit::{Reference, dequantise};
use gogrid_units::{Bytes, Span, WeightType};
use half::f16;

const TINY: SyntheticShape = SyntheticShape {
    name: "tiny",
    layers: 2,
    width: 512,
    hidden: 1024,
    heads: 4,
    kv_heads: 2,
    head_dim: 64,
    vocab: 300,
    context: 64,
    tied: false,
    matrices: WeightType::Q4K,
    head: WeightType::Q6K,
};

fn open(shape: SyntheticShape) -> Model {
    Model::synthetic(&shape, &OpenOptions::default()).unwrap()
}

fn refusal(shape: SyntheticShape, options: &OpenOptions) -> String {
    let refused = Model::synthetic(&shape, options).expect_err("it is wrong");
    assert!(matches!(refused, ModelError::Request { .. }), "{refused:?}");
    refused.to_string()
}

/// Rows of a matrix, as they are stored.
fn rows(model: &Model, weight: &Weight, rows: std::ops::Range<usize>) -> Vec<u8> {
    let mut out = vec![0xff; rows.len() * weight.row_bytes()];
    model.read_rows(weight, rows, &mut out).unwrap();
    out
}

/// Values of all matrices and norms, a table that is the head too counted once.
fn parameters(decoder: &Decoder) -> f64 {
    let mut seen = HashSet::new();
    let weights = decoder.weights().into_iter();
    let distinct = weights.filter(|weight| seen.insert(weight.offset));
    let matrices: usize = distinct.map(|weight| weight.rows * weight.cols).sum();
    (matrices + decoder.width * (2 * decoder.layers.len() + 1)) as f64
}

#[test]
fn every_named_shape_has_the_parameters_of_the_model_it_is_named_for() {
    let check = |name: &str, layers: usize, expected: f64| {
        let shape = SyntheticShape {
            layers,
            ..name.parse().unwrap()
        };
        let found = parameters(open(shape).decoder());
        assert!((found / expected - 1.0).abs() < 0.03, "{name}: {found}");
    };
    check("1b-q4_k", 16, 1.24e9);
    check("7b-q4_k", 32, 6.74e9);
    check("7b-f16", 32, 6.74e9);
    // The whole of it, of which the slice is a tenth.
    check("70b-q4_k-slice", 80, 70.6e9);
    let slice: SyntheticShape = "70b-q4_k-slice".parse().unwrap();
    assert_eq!(slice.layers, 8);
}

#[test]
fn a_shape_opens_without_its_bytes_being_made() {
    for shape in SyntheticShape::ALL {
        let model = Model::from_source(&ModelSource::from(shape), &OpenOptions::default()).unwrap();
        assert_eq!(model.name(), format!("synthetic-{shape}"));
        assert_eq!(model.tokenizer().vocab(), shape.vocab);
        assert!(model.weight_bytes().0 > 500 << 20, "{shape}");
        assert!(model.chat_template().is_none() && model.warnings().is_empty());
        model.check_unchanged().unwrap();
    }
}

#[test]
fn logits_are_finite_differ_between_tokens_and_are_the_same_in_each_opening() {
    for shape in [TINY, SyntheticShape { tied: true, ..TINY }] {
        let logits = |model: &Model| Reference::load(model).unwrap().logits(&[7, 20, 33]);
        let (first, second) = (logits(&open(shape)), logits(&open(shape)));
        assert_eq!(first, second);
        for row in &first {
            assert!(row.iter().all(|logit| logit.is_finite()));
            let most = row.iter().fold(0_f32, |most, logit| most.max(logit.abs()));
            assert!((1.0..100.0).contains(&most), "{most}");
            let distinct: HashSet<_> = row.iter().map(|logit| logit.to_bits()).collect();
            assert!(distinct.len() > 290, "{} logits of 300", distinct.len());
        }
        assert_ne!(first[0], first[1]);
    }
}

#[test]
fn rows_of_every_type_are_blocks_of_weights_around_zero() {
    for ty in WeightType::ALL {
        let model = open(SyntheticShape {
            matrices: ty,
            head: ty,
            ..TINY
        });
        let weight = &model.decoder().layers[1].feed_forward.down;
        assert_eq!(weight.stored, ty);
        let values = dequantise(ty, &rows(&model, weight, 0..weight.rows));
        assert_eq!(values.len(), weight.rows * weight.cols);
        let sum = |of: &dyn Fn(f64) -> f64| values.iter().map(|v| of(f64::from(*v))).sum::<f64>();
        let count = values.len() as f64;
        let mean = sum(&|value| value) / count;
        let row_squares = sum(&|value| value * value) / weight.rows as f64;
        assert!((row_squares - 1.0).abs() < 0.1, "{ty}: {row_squares}");
        let deviation = (row_squares / weight.cols as f64).sqrt();
        assert!(mean.abs() < 0.15 * deviation, "{ty}: {mean} of {deviation}");
    }
}

#[test]
fn scales_of_blocks_in_named_shapes_are_normal_halves() {
    for shape in SyntheticShape::ALL {
        let model = open(shape);
        for weight in model.decoder().weights() {
            let at = match weight.stored {
                WeightType::Q4K => 0,
                WeightType::Q6K => 208,
                _ => continue,
            };
            let row = rows(&model, weight, weight.rows - 1..weight.rows);
            for block in row.chunks_exact(weight.stored.block_bytes()) {
                let scale = f16::from_le_bytes([block[at], block[at + 1]]);
                assert!(scale.is_normal(), "{shape}, {}: {scale}", weight.name);
            }
        }
    }
}

#[test]
fn a_row_is_the_same_however_it_is_read_and_like_no_other() {
    // Rows of the head end within a stretch of values that is laid into them.
    for (width, head) in [(512, WeightType::Q6K), (96, WeightType::Q8_0)] {
        let model = open(SyntheticShape {
            width,
            matrices: WeightType::F16,
            head,
            ..TINY
        });
        for weight in model.decoder().weights() {
            let whole = rows(&model, weight, 0..weight.rows);
            let apart: Vec<_> = (0..weight.rows)
                .map(|row| rows(&model, weight, row..row + 1))
                .collect();
            assert_eq!(whole, apart.concat(), "{}", weight.name);
            assert_eq!(rows(&model, weight, 3..11), apart[3..11].concat());
            let distinct: HashSet<_> = apart.iter().collect();
            // There are 512 stretches, and the shortest rows here have one.
            assert!(distinct.len() * 3 > apart.len(), "{}", weight.name);
        }
    }
}

#[test]
fn a_row_reads_all_weights_but_of_the_table_one_row() {
    let check = |tied: bool, expected: &dyn Fn(u64, u64, u64) -> u64| {
        let model = open(SyntheticShape { tied, ..TINY });
        let decoder = model.decoder();
        let pieces = Span::whole_model(2).pieces(2);
        let read: Bytes = pieces.map(|piece| decoder.bytes_read(piece)).sum();
        let table = &decoder.embedding.table;
        let (table, row) = (table.kept_bytes().0, table.row_bytes() as u64);
        assert_eq!(read.0, expected(model.weight_bytes().0, table, row));
    };
    check(false, &|all, table, row| all - table + row);
    check(true, &|all, _, row| all + row);
}

#[test]
fn norms_are_ones() {
    let model = open(TINY);
    assert_eq!(model.decoder().head.norm.values, [1.0; 512]);
}

#[test]
fn a_name_that_no_shape_has_is_refused_with_those_there_are() {
    let error = "nonsense".parse::<SyntheticShape>().unwrap_err();
    assert_eq!(
        error,
        "unknown shape \"nonsense\"; one of 1b-q4_k, 7b-q4_k, 7b-f16, 70b-q4_k-slice"
    );
    for shape in SyntheticShape::ALL {
        assert_eq!(shape.name.parse(), Ok(shape));
    }
}

#[test]
fn sizes_that_make_no_model_are_refused() {
    let usual = OpenOptions::default();
    let odd = SyntheticShape {
        hidden: 300,
        ..TINY
    };
    let message = refusal(odd, &usual);
    assert!(
        message.contains("300 columns of blk.0.ffn_down.weight"),
        "{message}"
    );
    let few = SyntheticShape { vocab: 256, ..TINY };
    let message = refusal(few, &usual);
    assert_eq!(message, "tiny: vocabulary 256, must be 257 to 4194304");
    let flat = SyntheticShape { layers: 0, ..TINY };
    assert_eq!(refusal(flat, &usual), "tiny: layers 0, must be 1 to 1024");
    let wide = SyntheticShape {
        heads: usize::MAX,
        ..TINY
    };
    let message = refusal(wide, &usual);
    assert!(
        message.contains("heads") && message.ends_with("1 to 4096"),
        "{message}"
    );
    let context = Some(65);
    let message = refusal(TINY, &OpenOptions { context, ..usual });
    assert!(message.contains("the model takes 1 to 64"), "{message}");
}

#[test]
fn float_matrices_may_be_quantised_while_loading() {
    let options = OpenOptions {
        quantise: Some(WeightType::Q8_0),
        ..OpenOptions::default()
    };
    let floats = SyntheticShape {
        matrices: WeightType::F16,
        ..TINY
    };
    let model = Model::synthetic(&floats, &options).unwrap();
    let (gate, head) = (
        &model.decoder().layers[0].feed_forward.gate,
        &model.decoder().head.output,
    );
    assert_eq!(
        (gate.stored, gate.kept),
        (WeightType::F16, WeightType::Q8_0)
    );
    assert_eq!((head.stored, head.kept), (WeightType::Q6K, WeightType::Q6K));
}

#[test]
fn the_tokenizer_knows_bytes_and_one_end() {
    let model = open(TINY);
    let tokenizer = model.tokenizer();
    let ids = tokenizer.encode("hé", SpecialTokens::Parse).unwrap();
    assert_eq!(ids, [0x68, 0xc3, 0xa9]);
    let ends: Vec<_> = (0..300).filter(|&id| tokenizer.ends(id)).collect();
    assert_eq!(ends, [299]);
    assert!(tokenizer.notices().is_empty() && tokenizer.bos().is_none());
}
