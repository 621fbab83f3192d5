//! virsh's grammar: commands as tables, their options read as virsh reads them, `help` as virsh prints it.

pub(crate) mod foreign;
pub(crate) mod help;
pub(crate) mod options;
pub(crate) mod parse;
pub(crate) mod shell;
pub(crate) mod table;

#[cfg(test)]
mod tests;
