//! Networks of units: a pure plan, and a helper process that carries it out.
//!
//! [`plan`] decides: which addresses, which names, which rules; it touches nothing. The
//! [`keeper`] is a child of the supervisor that owns all of it on this host: bridges,
//! addresses, rules, published ports and what is remembered of them. It takes one order
//! after the other ([`wire`]), each of which it may wait for. The [`resolver`] is a child
//! of the keeper with hardly any rights, which answers names; the [`forwarder`] is another,
//! which carries what comes to ports of `::1`. What each of them may do is in [`confine`].
//!
//! What must hold: what was made for a unit is removed with it, also when making it has
//! failed half way; a network is made for its first unit and removed with its last; an
//! address is never given to two units.

pub mod confine;
pub mod forwarder;
pub mod keeper;
pub mod plan;
pub mod resolver;
pub mod wire;
