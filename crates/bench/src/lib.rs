//! Measures programs and models beside the limits of the machine, and reports both.
