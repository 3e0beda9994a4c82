use std::fmt::Write;

use corpgrid_scheduler::{HeterogeneousPipeline, Prediction};
use gogrid_units::Bytes;

use crate::args::PlanArgs;
use crate::costs::CostsFile;
use crate::interrupt::Interrupt;
use crate::live::advised;
use crate::open::PipelineSpec;
use crate::out;

pub(crate) fn run(args: &PlanArgs, interrupt: &Interrupt) -> anyhow::Result<()> {
    let spec = PipelineSpec::new(&args.run, interrupt)?;
    let costs = CostsFile::of_user();
    let machine = spec.machine.machine(&costs)?;
    let plan = HeterogeneousPipeline::plan_on(&machine, spec.model, &spec.machine.options);
    costs.keep(&machine.known_costs());
    let plan = plan.map_err(|error| advised(error, &machine, spec.machine.advice()))?;
    if args.json.json {
        return out::json(&plan);
    }
    let mut text = table(&plan, spec.machine.mode.name());
    if args.why {
        for reason in &plan.why {
            writeln!(text, "{reason}")?;
        }
    }
    Ok(out::text(&text)?)
}

fn table(plan: &Prediction, mode: &str) -> String {
    let mut text = format!(
        "{}, context {}, mode {mode}: decode {:.1} tok/s, prefill {:.1} tok/s\n",
        plan.model, plan.context, plan.decode_tok_s, plan.prefill_tok_s
    );
    if plan.is_cut_short {
        text += "the best placement that was found; a better one may be there\n";
    }
    for (index, stage) in plan.stages.iter().enumerate() {
        text += &format!(
            "stage {index} on {}: {}; weights {}, scratch {}, KV {} a token\n",
            stage.device,
            stage.pieces,
            Bytes(stage.weights_bytes),
            Bytes(stage.scratch_bytes),
            Bytes(stage.kv_bytes_per_token)
        );
    }
    for device in &plan.devices {
        text += &format!(
            "{} ({}): {} of {} allowed ({} in all); weights {}, KV {} for {} tokens, scratch {}\n",
            device.device,
            device.hardware,
            Bytes(device.memory_used_bytes),
            Bytes(device.memory_cap_bytes),
            Bytes(device.memory_total_bytes),
            Bytes(device.weights_bytes),
            Bytes(device.kv_bytes),
            plan.planned_tokens,
            Bytes(device.scratch_bytes)
        );
    }
    text
}
