//! A chat template of any text: parsed and rendered within its bounds, and what is said to be the
//! template's own text never holds what a caller said.
#![no_main]

use gogrid_jinja::{CivilTime, Data, Template};
use libfuzzer_sys::fuzz_target;

/// What every text of a caller has. It has no case and no short escape: only a template with the
/// character or its number can write it.
const SAID: &str = "\u{10FFFD}";
const SAID_NUMBER: &str = "10fffd";

fuzz_target!(|source: &str| {
    let Ok(template) = Template::parse(source) else {
        return;
    };
    let message = |role: &'static str| {
        let said = format!("{SAID}a b\n{{0:{SAID}<9}}%5s{SAID}%%");
        Data::Dict(vec![
            ("role".into(), Data::Trusted(role.into())),
            ("content".into(), Data::Given(said.into())),
        ])
    };
    let variables = [
        (
            "messages",
            Data::List(vec![message("user"), message("assistant")]),
        ),
        ("add_generation_prompt", Data::Bool(true)),
        ("bos_token", Data::Trusted("<s>".into())),
        ("tools", Data::None),
    ];
    let now = CivilTime::new([2026, 11, 29], [12, 0, 0]);
    let Ok(rendered) = template.render(&variables, now.as_ref()) else {
        return;
    };
    let writes_it = source.contains(SAID)
        || (source.contains('\\') && source.to_ascii_lowercase().contains(SAID_NUMBER));
    if !writes_it {
        let own = rendered
            .own
            .iter()
            .map(|range| &rendered.text[range.clone()]);
        assert!(own.into_iter().all(|text| !text.contains(SAID)));
    }
});
