//! `orion mil`: print, check, convert, compare, describe and run MIL programs.

mod check;
pub(super) mod convert;
mod diff;
mod info;
mod inputs;
mod print;
mod run;
mod shapes;
pub(super) mod source;

use crate::arguments::Mil;
use crate::failure::Result;
use crate::printer::Printer;

pub(crate) fn mil(arguments: &Mil, printer: &Printer) -> Result {
    match arguments {
        Mil::Print(a) => print::print(a, printer),
        Mil::Check(a) => check::check(a, printer),
        Mil::Convert(a) => convert::convert(a, printer),
        Mil::Diff(a) => diff::diff(a, printer),
        Mil::Info(a) => info::info(a, printer),
        Mil::Run(a) => run::run(a, printer),
    }
}
