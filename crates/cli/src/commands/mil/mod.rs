//! `orion mil`: print, check and run MIL programs.

mod check;
mod inputs;
mod print;
mod run;
mod source;

use crate::arguments::Mil;
use crate::failure::Result;
use crate::printer::Printer;

pub(crate) fn mil(arguments: &Mil, printer: &Printer) -> Result {
    match arguments {
        Mil::Print(a) => print::print(a, printer),
        Mil::Check(a) => check::check(a, printer),
        Mil::Run(a) => run::run(a, printer),
    }
}
