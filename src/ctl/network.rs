//! `berthctl network`: the networks that are there, and who is in them.

use super::Context;
use super::args::NetworkVerb;
use super::client::{ANSWER, Patience};
use super::failure::Failure;
use super::render::{self, Color, Table};
use crate::protocol::method::Networks;
use crate::protocol::types::Network;
use crate::unit::names;

/// Prints all networks, or one.
///
/// # Errors
/// See [`Failure`].
pub fn run(context: &mut Context, verb: NetworkVerb) -> Result<(), Failure> {
    let networks = fetch(context)?;
    match verb {
        NetworkVerb::Ls { json: true } => context.json(&networks),
        NetworkVerb::Ls { json: false } => list(context, networks),
        NetworkVerb::Show { name, json } => {
            let Some(network) = networks.iter().find(|network| network.name == name) else {
                return Err(unknown(&name, &networks));
            };
            if json { context.json(network) } else { show(context, network) }
        }
    }
}

/// All networks, those that came in parts put together.
fn fetch(context: &mut Context) -> Result<Vec<Network>, Failure> {
    let mut networks: Vec<Network> = Vec::new();
    context.connect()?.stream(&Networks {}, &Patience::at_most(ANSWER), |page| {
        for part in page.networks {
            match networks.iter_mut().find(|network| network.name == part.name) {
                Some(network) => {
                    network.units.extend(part.units);
                    network.rules.extend(part.rules);
                }
                None => networks.push(part),
            }
        }
        Ok(())
    })?;
    Ok(networks)
}

fn unknown(name: &str, networks: &[Network]) -> Failure {
    let near = names::nearest(name, networks.iter().map(|network| network.name.as_str()));
    let hint = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
    let name = render::line(name);
    Failure::Other(format!("no unit that runs is in a network called {name}{hint}"))
}

fn list(context: &mut Context, networks: Vec<Network>) -> Result<(), Failure> {
    let mut table = Table::new(&["NAME", "DRIVER", "SUBNETS", "INTERNAL", "UNITS"]);
    for network in networks {
        let internal = if network.internal { "yes" } else { "no" };
        table.row(vec![
            (network.name, Color::Plain),
            (network.driver, Color::Plain),
            (network.subnets.join(" "), Color::Plain),
            (internal.to_owned(), Color::Plain),
            (network.units.len().to_string(), Color::Plain),
        ]);
    }
    table.write(context.out, context.style).map_err(Failure::Output)
}

fn show(context: &mut Context, network: &Network) -> Result<(), Failure> {
    let name = context.style.paint(Color::Bold, &render::line(&network.name));
    let inner = if network.internal { ", internal" } else { "" };
    let device = network.device.as_ref().map(|it| format!(" {}", render::line(it)));
    let driver = render::line(&network.driver);
    context.say(&format!("{name}  {driver}{}{inner}", device.unwrap_or_default()))?;
    for (subnet, gateway) in network.subnets.iter().zip(&network.gateways) {
        context.say(&format!("  {} gateway {}", render::line(subnet), render::line(gateway)))?;
    }
    context.say("")?;
    let mut table = Table::new(&["UNIT", "DEVICE", "ADDRESSES", "ALIASES", "PORTS", "PUBLISHED"]);
    for unit in &network.units {
        let (published, color) =
            if unit.published { ("yes", Color::Green) } else { ("no", Color::Yellow) };
        table.row(vec![
            (unit.unit.clone(), Color::Plain),
            (unit.device.clone(), Color::Plain),
            (unit.addresses.join(" "), Color::Plain),
            (unit.aliases.join(" "), Color::Plain),
            (unit.ports.join(" "), Color::Plain),
            (published.to_owned(), color),
        ]);
    }
    table.write(context.out, context.style).map_err(Failure::Output)?;
    context.say("")?;
    network.rules.iter().try_for_each(|rule| {
        context.say(&context.style.paint(Color::Dim, &format!("  {}", render::line(rule))))
    })
}
