use super::source::read_program;
use crate::arguments::MilPrint;
use crate::exit::Exit;
use crate::failure::{Context, Result};
use crate::printer::Printer;
use orion_mil::text;

pub(crate) fn print(arguments: &MilPrint, printer: &Printer) -> Result {
    let program = read_program(&arguments.file)?.context(arguments.file.display())?;
    printer.data_line(text::print(&program))?;
    Ok(Exit::Success)
}
