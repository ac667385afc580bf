use super::convert::write;
use crate::arguments::{Init, NumberType};
use crate::exit::Exit;
use crate::failure::{Context, Failure, Result};
use crate::printer::Printer;
use orion_engine::{
    Companions, ConfigLayers, LoadedModel, Target, initialize, network_of_preset, open_tokenizer,
};

/// Writes a model of random weights, the ones that training would begin with.
pub(crate) fn init(arguments: &Init, printer: &Printer) -> Result {
    let network = if arguments.shape.ends_with(".toml") {
        let text = std::fs::read_to_string(&arguments.shape).context(&arguments.shape)?;
        let mut layers = ConfigLayers::default();
        layers.add_toml(&text).context(&arguments.shape)?;
        layers.finish_model().context(&arguments.shape)?
    } else {
        network_of_preset(&arguments.shape)?
    };
    if arguments.out.exists() {
        return Err(Failure::new(format!("{}: is there already", arguments.out.display())));
    }
    let tokenizer = arguments.tokenizer.as_deref();
    let tokenizer = tokenizer.map(|path| open_tokenizer(path, network.vocab_size())).transpose()?;
    let parameters = initialize(&network, arguments.seed);
    let model = LoadedModel::new(network, parameters);
    let numbers = arguments.dtype.map(NumberType::numbers);
    let companions = Companions { tokenizer: tokenizer.as_ref(), template: None };
    write(&model, companions, Target::SafeTensors, numbers, &arguments.out, printer)?;
    Ok(Exit::Success)
}
