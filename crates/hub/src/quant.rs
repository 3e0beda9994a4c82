//! The models that a repository's GGUF files make up, and which of them is meant.

use crate::error::{NoChoice, Problem};

/// A file of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    /// Its path in the repository.
    pub(crate) path: String,
    pub(crate) bytes: u64,
    /// In lower-case hexadecimal.
    pub(crate) sha256: String,
    /// What told its model from others where it was fetched, if it was.
    pub(crate) label: Option<String>,
}

/// A model: a file, or the parts of one in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Model {
    pub(crate) files: Vec<Listed>,
    /// The file's name without its ending and without what numbers its parts.
    stem: String,
    /// The folder that it lies in.
    folder: String,
    /// Its quantisation as the file's name has it, in capitals.
    quant: Option<String>,
    /// What tells it from others of its repository: its quantisation, or its stem where that of another model with
    /// the same quantisation is shorter.
    pub(crate) label: String,
}

/// Quantisations in the order they are taken where none is asked for: small and good first.
const PREFERRED: [&str; 18] = [
    "Q4_K_M", "Q4_K_S", "Q4_K_L", "Q4_K_XL", "IQ4_XS", "IQ4_NL", "Q4_0", "Q4_1", "MXFP4", "Q5_K_M",
    "Q5_K_S", "Q5_0", "Q5_1", "Q6_K", "Q8_0", "BF16", "F16", "F32",
];

/// Before a quantisation whose types were chosen tensor by tensor.
const DYNAMIC: &str = "UD-";

/// What stands for a number's five digits in the names of a model's parts.
const PART_DIGITS: usize = 5;

impl Model {
    pub(crate) fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// The quantisation without what says how its types were chosen.
    fn plain_quant(&self) -> Option<&str> {
        let quant = self.quant.as_deref()?;
        Some(quant.strip_prefix(DYNAMIC).unwrap_or(quant))
    }

    fn is(&self, wanted: &str) -> bool {
        let wanted = wanted.to_ascii_uppercase();
        let wanted = wanted.strip_suffix(".GGUF").unwrap_or(&wanted);
        self.label.eq_ignore_ascii_case(wanted) || self.stem.eq_ignore_ascii_case(wanted)
    }
}

/// Where a quantisation stands in the order of those to prefer; one that is not in it stands last.
pub(crate) fn rank(quant: &str) -> usize {
    let plain = quant.strip_prefix(DYNAMIC).unwrap_or(quant);
    let known = PREFERRED.iter().position(|known| *known == plain);
    known.unwrap_or(PREFERRED.len())
}

/// The models that these files make up: all but those of which a part is missing, and but for files that
/// belong to a model and are none.
pub(crate) fn models(files: impl IntoIterator<Item = Listed>) -> Vec<Model> {
    let mut found: Vec<(Model, usize)> = Vec::new();
    let mut files: Vec<_> = files.into_iter().collect();
    files.sort_by(|a, b| a.path.cmp(&b.path));
    for file in files {
        let (folder, name) = file.path.rsplit_once('/').unwrap_or(("", &file.path));
        let Some(whole_stem) = strip_gguf(name) else {
            continue;
        };
        let lower = whole_stem.to_ascii_lowercase();
        if lower.contains("mmproj") || lower.contains("imatrix") {
            continue;
        }
        let (stem, (number, count)) = part(whole_stem).unwrap_or((whole_stem, (1, 1)));
        match found.iter_mut().find(|(model, parts)| {
            let is_same = model.stem == stem && model.folder == folder && *parts == count;
            is_same && model.files.len() + 1 == number
        }) {
            Some((model, _)) => model.files.push(file.clone()),
            None if number == 1 => {
                let model = Model {
                    folder: folder.to_owned(),
                    stem: stem.to_owned(),
                    quant: quant_of(stem),
                    label: String::new(),
                    files: vec![file.clone()],
                };
                found.push((model, count));
            }
            None => {}
        }
    }
    let is_whole = |(model, count): &(Model, usize)| model.files.len() == *count;
    let whole = found.into_iter().filter(is_whole);
    let mut models: Vec<_> = whole.map(|(model, _)| model).collect();
    // The shortest name of several with one quantisation has no other word before it.
    models.sort_by_key(|model| model.stem.len());
    let mut taken = Vec::new();
    for model in &mut models {
        let own = model.quant.clone().filter(|quant| !taken.contains(quant));
        taken.extend(own.clone());
        let told = model.files[0].label.clone();
        model.label = told.or(own).unwrap_or_else(|| model.stem.clone());
    }
    models.sort_by(|a, b| a.label.cmp(&b.label));
    models
}

/// The model of this quantisation or name; without one, the one to prefer.
pub(crate) fn choose(models: Vec<Model>, wanted: Option<&str>) -> Result<Model, NoChoice> {
    let no_choice = |models: &[Model], problem| NoChoice {
        problem,
        has: models.iter().map(|model| model.label.clone()).collect(),
    };
    if models.is_empty() {
        return Err(no_choice(&models, Problem::NoModel));
    }
    let meant = match wanted {
        Some(wanted) => models.iter().find(|model| model.is(wanted)),
        None if models.len() == 1 => models.first(),
        None => PREFERRED.iter().find_map(|quant| {
            let of_quant = models
                .iter()
                .filter(|model| model.plain_quant() == Some(quant));
            of_quant.min_by_key(|model| model.stem.len())
        }),
    };
    match (meant, wanted) {
        (Some(model), _) => Ok(model.clone()),
        (None, Some(wanted)) => Err(no_choice(&models, Problem::NoSuch(wanted.to_owned()))),
        (None, None) => Err(no_choice(&models, Problem::Which)),
    }
}

/// What a file of this name would be told by, where it is the only one of its quantisation.
pub(crate) fn label_of(file: &str) -> Option<String> {
    let stem = strip_gguf(file)?;
    let stem = part(stem).map_or(stem, |(stem, _)| stem);
    Some(quant_of(stem).unwrap_or_else(|| stem.to_owned()))
}

/// Whether a file of this name is a further part of a model, which is opened by its first.
pub fn is_further_part(file: &str) -> bool {
    let stem = strip_gguf(file).and_then(part);
    stem.is_some_and(|(_, (number, _))| number > 1)
}

fn strip_gguf(name: &str) -> Option<&str> {
    let at = name.len().checked_sub(".gguf".len())?;
    let ending = name.get(at..)?;
    ending.eq_ignore_ascii_case(".gguf").then(|| &name[..at])
}

/// What `name-00002-of-00003` says: the name, and the part's number of how many.
fn part(stem: &str) -> Option<(&str, (usize, usize))> {
    let (rest, count) = stem.rsplit_once("-of-")?;
    let (stem, number) = rest.rsplit_once('-')?;
    let read = |digits: &str| match digits.len() == PART_DIGITS {
        true => digits.parse::<usize>().ok(),
        false => None,
    };
    Some((stem, (read(number)?, read(count)?)))
}

/// The last piece of a name that is a quantisation's.
fn quant_of(stem: &str) -> Option<String> {
    let upper = stem.to_ascii_uppercase();
    let pieces = upper.rsplit(['-', '.']);
    let mut endings = pieces.flat_map(|piece| {
        let after = piece.match_indices('_').map(|(at, _)| &piece[at + 1..]);
        std::iter::once(piece).chain(after).collect::<Vec<_>>()
    });
    let quant = endings.find(|ending| is_quant(ending))?;
    let dynamic = format!("{DYNAMIC}{quant}");
    match upper.contains(&dynamic) {
        true => Some(dynamic),
        false => Some(quant.to_owned()),
    }
}

/// Whether a word in capitals names a quantisation.
fn is_quant(word: &str) -> bool {
    let whole = ["F16", "BF16", "F32", "MXFP4", "MXFP4_MOE", "FP16"];
    let rest = ["IQ", "TQ", "Q"]
        .iter()
        .find_map(|start| word.strip_prefix(start));
    whole.contains(&word)
        || rest.is_some_and(|rest| {
            let mut parts = rest.split('_');
            let bits = parts.next().unwrap_or_default();
            let is_bits = matches!(bits.as_bytes(), [b'1'..=b'8']);
            is_bits && parts.clone().next().is_some() && parts.all(is_quant_part)
        })
}

fn is_quant_part(part: &str) -> bool {
    [
        "0", "1", "K", "S", "M", "L", "XL", "XS", "XXS", "NL", "4", "8",
    ]
    .contains(&part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(paths: &[&str]) -> Vec<Listed> {
        let file = |path: &&str| Listed {
            path: (*path).to_owned(),
            bytes: 1,
            sha256: String::new(),
            label: None,
        };
        paths.iter().map(file).collect()
    }

    #[test]
    fn a_files_name_says_its_quantisation() {
        let check = |stem: &str, expected: Option<&str>| {
            assert_eq!(quant_of(stem).as_deref(), expected, "{stem}");
        };
        check("SmolLM2-135M-Instruct.Q4_1", Some("Q4_1"));
        check("qwen2.5-0.5b-instruct-q4_k_m", Some("Q4_K_M"));
        check("model_q8_0", Some("Q8_0"));
        check("gpt-oss-20b-mxfp4", Some("MXFP4"));
        check("Model-UD-IQ2_XXS", Some("UD-IQ2_XXS"));
        check("Model-Q4_0_4_8", Some("Q4_0_4_8"));
        check("Model-bf16", Some("BF16"));
        check("Phi-3-mini-4k-instruct-q4", None);
        check("Qwen2-7B", None);
        check("", None);
    }

    #[test]
    fn parts_are_one_model_in_their_order_and_whole_or_none() {
        let files = listed(&[
            "m-q8_0-00002-of-00002.gguf",
            "other/m-q8_0-00001-of-00002.gguf",
            "m-q8_0-00001-of-00002.gguf",
            "m-q2_k-00001-of-00002.gguf",
            "sub/m-f16-00002-of-00002.gguf",
            "mmproj-m-f16.gguf",
            "m.imatrix.gguf",
            "README.md",
            "m-Q4_K_M.GGUF",
        ]);
        let models = models(files);
        let labels: Vec<_> = models.iter().map(|model| model.label.as_str()).collect();
        assert_eq!(labels, ["Q4_K_M", "Q8_0"]);
        let parts: Vec<_> = models[1].files.iter().map(|file| &file.path).collect();
        assert_eq!(
            parts,
            ["m-q8_0-00001-of-00002.gguf", "m-q8_0-00002-of-00002.gguf"]
        );
    }

    #[test]
    fn the_one_that_is_meant_is_taken_or_what_there_is_is_told() {
        let check = |paths: &[&str], wanted: Option<&str>, expected: Result<&str, &str>| {
            let chosen = choose(models(listed(paths)), wanted);
            let found = chosen.map(|model| model.files[0].path.clone());
            match (found, expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected),
                (Err(error), Err(words)) => {
                    let text = error.to_string();
                    assert!(text.contains(words), "{text}");
                }
                other => panic!("{paths:?} {wanted:?}: {other:?}"),
            }
        };
        let usual = ["m-Q8_0.gguf", "m-Q4_K_M.gguf", "m-UD-Q4_K_M.gguf"];
        check(&usual, None, Ok("m-Q4_K_M.gguf"));
        check(&usual, Some("q8_0"), Ok("m-Q8_0.gguf"));
        check(&usual, Some("UD-Q4_K_M"), Ok("m-UD-Q4_K_M.gguf"));
        check(&usual, Some("m-Q8_0.gguf"), Ok("m-Q8_0.gguf"));
        check(
            &usual,
            Some("Q2_K"),
            Err("no Q2_K; it has Q4_K_M, Q8_0, UD-Q4_K_M"),
        );
        check(&usual, Some("0"), Err("no 0"));
        check(
            &["m-Q8_0.gguf", "m-UD-Q4_K_XL.gguf"],
            None,
            Ok("m-UD-Q4_K_XL.gguf"),
        );
        let alike = ["m-abliterated-Q4_K_M.gguf", "m-Q4_K_M.gguf"];
        check(&alike, Some("Q4_K_M"), Ok("m-Q4_K_M.gguf"));
        check(&alike, Some("m-abliterated-Q4_K_M"), Ok(alike[0]));
        check(&alike[..1], Some("m-Q4_K_M"), Err("no m-Q4_K_M"));
        check(&["any.gguf"], None, Ok("any.gguf"));
        check(&["one.gguf", "two.gguf"], None, Err("one, two: say which"));
        check(&["one.gguf", "two.gguf"], Some("two"), Ok("two.gguf"));
        check(&["model.safetensors"], None, Err("no GGUF file"));
    }
}
