//! A chat template of any text: parsed and rendered within its bounds, and what is said to be the
//! template's own text never holds what a caller said.
#![no_main]

use gogrid_jinja::{CivilTime, Data, Template};
use libfuzzer_sys::fuzz_target;

/// A character that no template of the corpus has.
const SAID: &str = "\u{10FFFD}";

fuzz_target!(|source: &str| {
    let Ok(template) = Template::parse(source) else {
        return;
    };
    let message = |role: &'static str| {
        let said = format!("{SAID}a b\n{SAID}");
        Data::Dict(vec![
            ("role".into(), Data::Trusted(role.into())),
            ("content".into(), Data::Given(said.into())),
        ])
    };
    let variables = [
        ("messages", Data::List(vec![message("user"), message("assistant")])),
        ("add_generation_prompt", Data::Bool(true)),
        ("bos_token", Data::Trusted("<s>".into())),
        ("tools", Data::None),
    ];
    let now = CivilTime::new([2026, 11, 29], [12, 0, 0]);
    let Ok(rendered) = template.render(&variables, now.as_ref()) else {
        return;
    };
    // A template can write any character by an escape or a format.
    let writes_any = source.contains('\\') || source.contains('%') || source.contains(SAID);
    if !writes_any {
        let own = rendered.own.iter().map(|range| &rendered.text[range.clone()]);
        assert!(own.into_iter().all(|text| !text.contains(SAID)));
    }
});
