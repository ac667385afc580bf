use super::source::require_program;
use crate::arguments::MilPrint;
use crate::exit::Exit;
use crate::failure::Result;
use crate::printer::Printer;
use orion_mil::text;

pub(crate) fn print(arguments: &MilPrint, printer: &Printer) -> Result {
    let program = require_program(&arguments.file)?;
    printer.data_line(text::print(&program))?;
    Ok(Exit::Success)
}
