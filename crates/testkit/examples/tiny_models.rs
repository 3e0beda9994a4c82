//! Writes tiny random models for comparing with other implementations:
//! `cargo run -p gogrid-testkit --example tiny_models -- DIRECTORY`.
//!
//! For every family and weight type there is `FAMILY-TYPE.gguf`, and `FAMILY-TYPE.f32.gguf` with
//! the same values as F32.

use std::error::Error;
use std::path::PathBuf;

use gogrid_testkit::{Family, RandomModel, Spec};
use gogrid_units::WeightType;

fn main() -> Result<(), Box<dyn Error>> {
    let directory = PathBuf::from(
        std::env::args()
            .nth(1)
            .ok_or("usage: tiny_models DIRECTORY")?,
    );
    std::fs::create_dir_all(&directory)?;
    for family in Family::ALL {
        for weights in WeightType::ALL {
            let spec = Spec {
                family,
                weights,
                seed: 1,
            };
            let name = format!("{}-{weights}", family.name());
            let model = RandomModel::new(spec);
            model.write_gguf(&directory.join(format!("{name}.gguf")))?;
            let wide = directory.join(format!("{name}.f32.gguf"));
            model.dequantised().write_gguf(&wide)?;
        }
    }
    Ok(())
}
