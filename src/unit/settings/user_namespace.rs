//! `user-namespace`: which numbers the users of a service have on the host.

use super::value::{self, Context, put};
use super::{Section, Setting};
use crate::unit::model::{IdMaps, IdRange, UserNamespace};
use crate::unit::syntax::{Node, Value};
use crate::unit::text::quote;

const SECURITY: &[Section] = &[Section::Security];

/// Most ranges of a map: the kernel takes 340, and no map is that long for a reason.
const RANGES_MAX: usize = 32;

/// The setting.
pub(super) const SETTINGS: &[Setting] = &[Setting::new(
    SECURITY,
    "user-namespace",
    "\"auto\" | \"none\" | { uid = list, gid = list }",
    "see below",
    |d, v, cx| {
        put(&mut d.service.security.user_namespace, user_namespace(v, cx));
    },
)
.help(
    "A user namespace of its own: root inside is an ordinary user on the host, who owns \
     nothing there, and its capabilities are good for what is its own only. `auto`: 65536 \
     users and groups that no other unit has, from the pool of `berth --user-namespace-pool` \
     (1879048192:268304384 unless it is set; ranges in `/etc/subuid` and `/etc/subgid` are \
     left out, and what other supervisors of this host have given); a unit keeps its range. \
     Its root tree, volumes and binds appear with the \
     owners they have on the disk, and what it writes there is owned on the disk by the \
     numbers of the inside; nothing is changed there: in a writable bind, root of the inside \
     writes as root. Where the kernel, or a filesystem, cannot do that, it starts with the host's \
     users, and `berthctl status` says why; only a filesystem that is mounted somewhere below a \
     bind is shown as it is then, with owners that are nobody inside. It is the \
     default of a service with a mount namespace of its own, unless it is privileged. \
     A table has lists of `INSIDE:HOST:COUNT`, `gid` as `uid` if it is left out, in which 0 of \
     the inside must be; then it does not start where that is impossible. None of the pool may \
     be in it; services whose tables have the same numbers share these users, and one whose \
     table has 0 of the host is root there: `berthctl status` and `audit` say so. `none`: the host's \
     users. With `network = \"host\"`, or another service's, no capability is good for the network: ports below 1024 \
     (`net.ipv4.ip_unprivileged_port_start`), raw sockets and routes need `none`. Kernel \
     messages, memory that stays in place, real-time priorities, file handles, immutable \
     files, device nodes and the clock are the host's: their capabilities do nothing inside.",
)
.good(&["\"auto\"", "\"none\"", "{ uid = [\"0:100000:65536\"] }"])
.bad(&[
    "1",
    "\"atuo\"",
    "{}",
    "{ uid = [\"0:100000\"] }",
    "{ uid = [\"1:100000:10\"] }",
    "{ uid = [\"0:100000:0\"] }",
    "{ uid = [\"0:1:5\", \"4:100:1\"] }",
    "{ uid = [\"0:4294967290:65536\"] }",
    "{ uid = [\"0:1:5\"], gids = [] }",
    "{ uid = [\"0:1:5\"], gid = [] }",
])];

fn user_namespace(node: &Node, cx: &mut Context<'_>) -> Option<UserNamespace> {
    let Value::Table(table) = &node.value else {
        if !matches!(node.value, Value::String(_)) {
            return cx.expected(node, "\"auto\", \"none\" or a table of `uid` and `gid`");
        }
        let auto = value::choice(node, &[("auto", true), ("none", false)], cx)?;
        return Some(if auto { UserNamespace::Auto } else { UserNamespace::None });
    };
    for entry in table.0.iter().filter(|entry| !["uid", "gid"].contains(&entry.key.as_str())) {
        let message = format!("unknown key {} in user-namespace", quote(&entry.key));
        cx.out.push(
            crate::unit::diagnostic::Mistake::new(entry.place, message)
                .help("known keys: uid, gid"),
        );
    }
    let Some(uid) = table.get("uid") else {
        let help = "add uid = [\"0:100000:65536\"]: number inside, on the host, how many";
        return cx.advise(node, "this has no `uid`", help);
    };
    let uid = map(&uid.node, cx);
    let gid = match table.get("gid") {
        Some(entry) => map(&entry.node, cx),
        None => uid.clone(),
    };
    let maps = IdMaps { uid: uid?, gid: gid? };
    Some(UserNamespace::Maps(Box::new(cx.at(node.place, maps))))
}

fn map(node: &Node, cx: &mut Context<'_>) -> Option<Vec<IdRange>> {
    let mut map: Vec<IdRange> = Vec::new();
    value::list(node, "a list of ranges", cx, |node, cx| {
        let text = value::text(node, cx)?;
        let Some(range) = range(text) else {
            let message = format!("{} is not a range", quote(text));
            let help = "write INSIDE:HOST:COUNT, such as \"0:100000:65536\"; the last number \
                        is 4294967294";
            return cx.advise(node, message, help);
        };
        if let Some(other) = map.iter().find(|other| other.overlaps(&range)) {
            return cx.refuse(node, format!("this range overlaps \"{other}\""));
        }
        map.push(range);
        Some(())
    })?;
    if map.len() > RANGES_MAX {
        return cx.refuse(node, format!("this list has at most {RANGES_MAX} ranges"));
    }
    if map.iter().all(|range| range.outside_of(0).is_none()) {
        let help = "what prepares the service inside is root: map 0, such as \"0:100000:1\"";
        return cx.advise(node, "0 of the inside is in none of these ranges", help);
    }
    Some(map)
}

fn range(text: &str) -> Option<IdRange> {
    let mut parts = text.split(':').map(|part| part.parse::<u32>().ok());
    let [inside, outside, count] = [parts.next()??, parts.next()??, parts.next()??];
    let fits = |first: u32| first.checked_add(count).is_some();
    let good = parts.next().is_none() && count > 0 && fits(inside) && fits(outside);
    good.then_some(IdRange { inside, outside, count })
}
