//! Models in several GGUF files: any part opens all, and a part that is missing, foreign or cut is named.
#![allow(clippy::print_stdout, reason = "the campaign prints its figures")]

use std::fs;
use std::path::{Path, PathBuf};

use gogrid_model::{Model, ModelError, OpenOptions, SpecialTokens, Tokenizer};
use gogrid_testkit::{
    Family, GgufWriter, Meta, RandomModel, Rng, Spec, Tensor, cases, part_ending,
};
use gogrid_units::WeightType;
use tempfile::TempDir;

const PARTS: usize = 3;

fn tiny(family: Family, seed: u64) -> RandomModel {
    RandomModel::new(Spec {
        family,
        weights: WeightType::Q8_0,
        seed,
    })
}

fn open(path: &Path) -> Result<Model, ModelError> {
    Model::open(path, &OpenOptions::default())
}

/// A model's parts in a folder.
struct Split {
    parts: Vec<GgufWriter>,
    folder: TempDir,
}

impl Split {
    fn of(model: &RandomModel) -> Self {
        let split = Self {
            parts: model.gguf().split(PARTS),
            folder: TempDir::new().unwrap(),
        };
        for number in 0..PARTS {
            fs::write(split.path(number), split.parts[number].bytes()).unwrap();
        }
        split
    }

    fn path(&self, number: usize) -> PathBuf {
        let name = format!("tiny{}", part_ending(number, PARTS));
        self.folder.path().join(name)
    }

    /// Writes a part anew, as `change` leaves it.
    fn change(&mut self, number: usize, change: impl FnOnce(&mut GgufWriter)) {
        change(&mut self.parts[number]);
        fs::write(self.path(number), self.parts[number].bytes()).unwrap();
    }

    #[track_caller]
    fn check_refused(&self, opened: usize, words: &[&str]) {
        let error = open(&self.path(opened)).expect_err("it is wrong");
        let message = error.to_string();
        for word in words {
            assert!(message.contains(word), "no {word:?} in {message:?}");
        }
    }
}

/// All rows of all matrices.
fn content(model: &Model) -> Vec<Vec<u8>> {
    let weights = model.decoder().weights().into_iter();
    let read = weights.map(|weight| {
        let mut rows = vec![0; weight.rows * weight.row_bytes()];
        model.read_rows(weight, 0..weight.rows, &mut rows).unwrap();
        rows
    });
    read.collect()
}

#[test]
fn any_part_opens_all_of_them() {
    for family in [Family::Llama, Family::Phi3Long, Family::Olmo3] {
        let tiny = tiny(family, 1);
        let folder = TempDir::new().unwrap();
        let whole = folder.path().join("tiny.gguf");
        tiny.write_gguf(&whole).unwrap();
        let whole = open(&whole).unwrap();
        let split = Split::of(&tiny);
        for part in 0..PARTS {
            let model = open(&split.path(part)).unwrap();
            assert_eq!(content(&model), content(&whole), "{family:?}");
            assert_eq!(model.name(), whole.name());
            let weights = model.decoder().weights();
            let files: Vec<_> = (0..PARTS)
                .filter(|file| weights.iter().any(|weight| weight.file == *file))
                .collect();
            assert_eq!(files, [0, 1, 2]);
            let tokenizer = Tokenizer::open(&split.path(part)).unwrap();
            let encode = |t: &Tokenizer| t.encode("the cat", SpecialTokens::Parse).unwrap();
            assert_eq!(encode(&tokenizer), encode(whole.tokenizer()));
        }
    }
}

#[test]
fn a_part_that_is_not_there_is_named() {
    for missing in 0..PARTS {
        let split = Split::of(&tiny(Family::Llama, 1));
        fs::remove_file(split.path(missing)).unwrap();
        let opened = (missing + 1) % PARTS;
        let (number, name) = (missing + 1, format!("tiny{}", part_ending(missing, PARTS)));
        let part = format!("part {number} of 3, {name} is missing");
        let begins = split.path(opened).display().to_string();
        split.check_refused(opened, &[&begins, &part, "one folder", "--merge"]);
    }
}

#[test]
fn a_part_by_another_name_says_what_its_name_must_be() {
    let split = Split::of(&tiny(Family::Llama, 1));
    let other = split.folder.path().join("renamed.gguf");
    fs::rename(split.path(1), &other).unwrap();
    let error = open(&other).unwrap_err().to_string();
    assert!(error.contains("part 2 of 3"), "{error}");
    assert!(error.contains("-00002-of-00003.gguf"), "{error}");
}

#[test]
fn a_part_of_another_model_is_named() {
    let mut split = Split::of(&tiny(Family::Llama, 1));
    let second = "tiny-00002-of-00003.gguf";
    // Another part of the same model under this one's name.
    fs::copy(split.path(2), split.path(1)).unwrap();
    split.check_refused(0, &[second, "split.no", "2 where 1 belongs"]);
    // A part of a model in more files, or of more tensors.
    split.change(1, |part| _ = part.set("split.count", Meta::U16(4)));
    split.check_refused(0, &[second, "split.count", "4 where 3 belongs"]);
    split.change(1, |part| {
        part.set("split.count", Meta::U16(3));
        part.set("split.tensors.count", Meta::I32(1));
    });
    split.check_refused(2, &[second, "split.tensors.count", "another model"]);
    // A whole model.
    let mut split = Split::of(&tiny(Family::Llama, 1));
    tiny(Family::Llama, 2).write_gguf(&split.path(1)).unwrap();
    split.check_refused(0, &[second, "split.no", "nothing where 1 belongs"]);
    // One with keys that would mean something.
    split.change(1, |part| {
        part.meta("llama.rope.freq_base", Meta::F32(5.0));
    });
    split.check_refused(0, &[second, "llama.rope.freq_base", "only the first"]);
}

#[test]
fn tensors_are_in_one_part_and_all_there() {
    let mut split = Split::of(&tiny(Family::Llama, 1));
    let norm = Tensor {
        name: "output_norm.weight".to_owned(),
        shape: vec![96],
        stored: WeightType::F32,
        data: vec![0; 384],
    };
    let count = |split: &Split| split.parts.iter().map(GgufWriter::tensors).sum::<usize>();
    let before = count(&split);
    split.change(0, |part| _ = part.tensor(norm));
    let words = ["output_norm.weight", "tiny-00001-of-00003.gguf too"];
    split.check_refused(0, &words);

    let mut split = Split::of(&tiny(Family::Llama, 1));
    for part in 0..PARTS {
        let wrong = Meta::I32(before as i32 + 1);
        split.change(part, |part| _ = part.set("split.tensors.count", wrong));
    }
    let together = format!("the parts have {before} together");
    split.check_refused(0, &["split.tensors.count", &together]);
}

#[test]
fn a_part_that_was_cut_is_named() {
    let split = Split::of(&tiny(Family::Llama, 1));
    let bytes = fs::read(split.path(1)).unwrap();
    fs::write(split.path(1), &bytes[..bytes.len() - 64]).unwrap();
    let words = ["tiny-00002-of-00003.gguf", "is the download complete?"];
    split.check_refused(0, &words);
    fs::write(split.path(1), &bytes[..20]).unwrap();
    split.check_refused(0, &["tiny-00002-of-00003.gguf"]);
    fs::write(split.path(1), b"").unwrap();
    split.check_refused(0, &["tiny-00002-of-00003.gguf"]);
}

#[test]
fn a_part_that_changes_while_it_is_open_is_named() {
    let split = Split::of(&tiny(Family::Llama, 1));
    let model = open(&split.path(0)).unwrap();
    model.check_unchanged().unwrap();
    let file = fs::File::options().write(true).open(split.path(2)).unwrap();
    file.set_len(100).unwrap();
    let error = model.check_unchanged().unwrap_err().to_string();
    assert!(error.contains("tiny-00003-of-00003.gguf"), "{error}");
}

/// A quarter as many cases as elsewhere, as each opens three files: `GOGRID_CASES=100000 cargo test --release -p gogrid-model --test split -- --nocapture`
/// prints what became of them.
#[test]
fn damage_to_a_part_is_refused_or_harmless() {
    let split = Split::of(&tiny(Family::Olmo2, 1));
    let whole: Vec<_> = (0..PARTS)
        .map(|part| fs::read(split.path(part)).unwrap())
        .collect();
    let headers: Vec<_> = (0..PARTS)
        .map(|part| split.parts[part].header_bytes())
        .collect();
    let (mut opened, mut refused) = (0, 0);
    for seed in 0..cases() / 4 {
        let mut rng = Rng::new(seed);
        let part = rng.below(PARTS);
        let mut bytes = whole[part].clone();
        for _ in 0..=rng.below(3) {
            // The low byte of random bits.
            bytes[rng.below(headers[part])] = rng.bits().to_le_bytes()[0];
        }
        if rng.below(8) == 0 {
            bytes.truncate(rng.below(bytes.len()));
        }
        fs::write(split.path(part), &bytes).unwrap();
        match open(&split.path(rng.below(PARTS))) {
            Ok(model) => {
                opened += 1;
                content(&model);
            }
            Err(error) => {
                refused += 1;
                let message = error.to_string();
                let folder = split.folder.path().display().to_string();
                assert!(message.starts_with(&folder), "{seed}: {message}");
                assert!(message.len() < folder.len() + 2000, "{seed}: {message}");
            }
        }
        fs::write(split.path(part), &whole[part]).unwrap();
    }
    println!("{opened} opened, {refused} refused");
    assert!(opened > 0 && refused > opened, "{opened} {refused}");
}
