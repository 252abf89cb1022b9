//! What a unit may not do to others on its network, each with a control: the same attempt
//! succeeds when the one rule that is meant is taken away.

use std::net::Ipv4Addr;

use crate::network::{address, rig, server};
use crate::rig::Rig;

/// Sends one frame: `send DST-MAC SRC-MAC ETHERTYPE HEX`, `-` for the own address.
const SEND: &str = r#"
import socket, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); s.bind(("eth0", 0))
own = s.getsockname()[4]
mac = lambda t: own if t == "-" else bytes.fromhex(t.replace(":", ""))
s.send(mac(sys.argv[1]) + mac(sys.argv[2]) + bytes.fromhex(sys.argv[3] + sys.argv[4].replace("OWN", own.hex())))
"#;

/// Prints every frame that comes, as hexadecimal digits.
const HEAR: &str = r#"
import socket
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.ntohs(3)); s.bind(("eth0", 0))
print("listening", flush=True)
while True: print(s.recv(2000).hex(), flush=True)
"#;

fn attackers() -> Rig {
    let raw = "[service.evil.security]\ncapabilities-add = [\"NET_RAW\", \"NET_ADMIN\"]\n\
               [service.victim.security]\ncapabilities-add = [\"NET_RAW\", \"NET_ADMIN\"]\n";
    let victim = "[service.victim]\ncommand = [\"/usr/bin/python3\", \"/mnt/hear\"]\n\
                  mounts = [@SHARE@]\nready = \"log:listening\"\nnetworks = [\"front\"]\n";
    let units = format!(
        "[network.front]\nsubnet = \"10.77.0.0/24\"\nipv6 = \"fd77::/64\"\n{victim}{}{raw}",
        server("evil", "networks = [\"front\"]\nrequires = [\"victim\"]")
    );
    let rig = rig(&units);
    std::fs::write(rig.path("share/send"), SEND).unwrap();
    std::fs::write(rig.path("share/hear"), HEAR).unwrap();
    rig.ctl_ok(&["reset", "victim", "evil"]);
    rig.ctl_ok(&["start", "victim", "evil"]);
    rig
}

fn send(rig: &Rig, arguments: [&str; 4]) {
    let mut all = vec!["exec", "evil", "--", "/usr/bin/python3", "/mnt/send"];
    all.extend(arguments);
    rig.ctl_ok(&all);
}

/// The address of the attacker.
fn own(rig: &Rig) -> Ipv4Addr {
    address(rig, "front", "evil", true).unwrap().parse().unwrap()
}

/// A datagram of four bytes, in hexadecimal digits.
fn datagram(from: Ipv4Addr, to: Ipv4Addr, port: u16, text: u32) -> String {
    let (from, to) = (u32::from(from), u32::from(to));
    let fields = [0x4500, 0x20, 0, 0, 0x4011, from >> 16, from & 0xffff, to >> 16, to & 0xffff];
    let sum: u32 = fields.iter().sum();
    let sum = !((sum & 0xffff) + (sum >> 16)) & 0xffff;
    format!(
        "4500002000000000_4011{sum:04x}{from:08x}{to:08x}{port:04x}{port:04x}000c0000{text:08x}"
    )
    .replace('_', "")
}

/// Whether the victim gets a frame that holds `mark`; one that it surely gets follows it.
fn arrives(rig: &Rig, frame: [&str; 4], mark: &str, fence: u32) -> bool {
    send(rig, frame);
    let honest = datagram(own(rig), Ipv4Addr::BROADCAST, 9, fence);
    send(rig, ["ff:ff:ff:ff:ff:ff", "-", "0800", &honest]);
    rig.wait_log("victim", &format!("{fence:08x}"));
    rig.logs("victim").contains(mark)
}

/// Runs nft in the rig with `@T@` for the table's name.
fn nft(rig: &Rig, command: &str) {
    let (done, said) = rig.on_host(&format!(
        "T=$(nft list tables | sed -n 's/table bridge //p'); nft {}",
        command.replace("@T@", "$T")
    ));
    assert!(done, "{command}: {said}");
}

#[test]
fn a_unit_cannot_speak_for_others() {
    let rig = attackers();
    let all = "ff:ff:ff:ff:ff:ff";
    // Name, frame, what of it would be seen, and the chain whose rules keep it.
    let other = Ipv4Addr::new(10, 77, 0, 254);
    let forged_ip = datagram(other, Ipv4Addr::BROADCAST, 9, 0xcafe_0001);
    let forged_arp = "0001080006040002OWN0a4d0001ffffffffffff0a4d0002";
    let cases: [(&str, [&str; 4], &str, &str); 3] = [
        ("address", [all, "-", "0800", &forged_ip], "cafe0001", "four"),
        (
            "hardware address",
            [all, "02:be:de:ad:be:ef", "0800", &forged_ip],
            "02bedeadbeef",
            "sent",
        ),
        (
            "answer for another",
            [all, "-", "0806", forged_arp],
            "0a4d0001ffffffffffff0a4d0002",
            "resolution",
        ),
    ];
    let mut fence = 0xfe_0000;
    for (what, frame, mark, chain) in &cases {
        fence += 1;
        assert!(!arrives(&rig, *frame, mark, fence), "{what} gets through");
        fence += 1;
        nft(&rig, &format!("insert rule bridge @T@ {chain} accept"));
        assert!(arrives(&rig, *frame, mark, fence), "the control of {what} does not get through");
        nft(
            &rig,
            &format!(
                "delete rule bridge @T@ {chain} handle $(nft -a list chain bridge $T {chain} | sed -n 's/.*accept # handle //p' | head -n 1)"
            ),
        );
    }
    // Router advertisements.
    let advert = "6000000000103aff".to_owned()
        + "fe80000000000000"
        + "LOCAL"
        + "ff020000000000000000000000000001"
        + "8600000040080708000000000000cafe";
    let [a, b, c, d] = own(&rig).octets();
    // From the link-local address that is really its own.
    let local = format!("00be{a:02x}fffe{b:02x}{c:02x}{d:02x}").replacen("00be", "00be", 1);
    assert_eq!(local.len(), 16);
    // A neighbour's answer for another's address; the option says it is to be reached here.
    let neighbour = "6000000000203aff".to_owned()
        + "fe80000000000000"
        + &local
        + "ff020000000000000000000000000001"
        + "8800000020000000fd7700000000000000000000000000fe0201OWN";
    let frame = ["33:33:00:00:00:01", "-", "86dd", neighbour.as_str()];
    let mark = "20000000fd7700000000000000000000000000fe";
    assert!(!arrives(&rig, frame, mark, 0xfb_0001), "an answer for another gets through");
    nft(&rig, "insert rule bridge @T@ six accept");
    assert!(arrives(&rig, frame, mark, 0xfb_0002), "control");
    nft(
        &rig,
        "delete rule bridge @T@ six handle $(nft -a list chain bridge $T six | \
         sed -n 's/.*accept # handle //p' | head -n 1)",
    );
    let advert = advert.replace("LOCAL", &local);
    let frame = ["33:33:00:00:00:01", "-", "86dd", advert.as_str()];
    assert!(!arrives(&rig, frame, "8600000040080708", 0xfd_0001), "an advertisement gets through");
    nft(&rig, "insert rule bridge @T@ six accept");
    assert!(arrives(&rig, frame, "8600000040080708", 0xfd_0002), "control");
}

#[test]
fn the_way_back_to_loopback_is_no_way_to_it() {
    let rig = attackers();
    let hear = "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); \
                s.bind((\"127.0.0.1\", 777)); s.settimeout(20); \
                open(\"OUT\", \"w\").write(\"ready\"); d = s.recv(100).hex(); \
                open(\"OUT\", \"w\").write(d)";
    let out = rig.path("heard");
    let hear = hear.replace("OUT", &out.display().to_string());
    rig.on_host(&format!("/usr/bin/python3 -c '{hear}' >/dev/null 2>&1 &"));
    let heard = || std::fs::read_to_string(&out).unwrap_or_default();
    rig.wait_for("a listener", |_| heard() == "ready");
    let (_, mac) =
        rig.on_host("ip -o link show type bridge | sed -n 's/.*ether \\([^ ]*\\).*/\\1/p'");
    let (mac, loopback) = (mac.trim().to_owned(), Ipv4Addr::LOCALHOST);
    let datagram = datagram(own(&rig), loopback, 777, 0xcafe_0002);
    let frame = [mac.as_str(), "-", "0800", datagram.as_str()];
    arrives(&rig, frame, "", 0xfc_0001);
    assert_eq!(heard(), "ready", "it reached the host's loopback");
    // It is dropped where connections are led, and once more what belongs to none.
    nft(&rig, "insert rule inet @T@ inward ip daddr 127.0.0.0/8 accept");
    send(&rig, frame);
    arrives(&rig, frame, "", 0xfc_0002);
    assert_eq!(heard(), "ready", "the second one lets it through");
    nft(&rig, "insert rule inet @T@ host ip daddr 127.0.0.0/8 accept");
    send(&rig, frame);
    rig.wait_for("the control", |_| heard() == "cafe0002");
}

#[test]
fn without_ipv6_there_is_none() {
    let raw = |unit: &str| {
        format!("[service.{unit}.security]\ncapabilities-add = [\"NET_RAW\", \"NET_ADMIN\"]\n")
    };
    let victim = "[service.victim]\ncommand = [\"/usr/bin/python3\", \"/mnt/hear\"]\n\
                  mounts = [@SHARE@]\nready = \"log:listening\"\nnetworks = [\"four\"]\nwanted-by = []\n";
    let rig = rig(&format!(
        "[network.four]\n[network.six]\nipv6 = true\n{victim}{}{}{}{}",
        server("evil", "networks = [\"four\"]\nwanted-by = []"),
        server("control", "networks = [\"six\"]"),
        raw("victim"),
        raw("evil"),
    ));
    std::fs::write(rig.path("share/send"), SEND).unwrap();
    std::fs::write(rig.path("share/hear"), HEAR).unwrap();
    rig.ctl_ok(&["start", "victim", "evil"]);
    let has = |unit: &str| {
        let all = rig.ctl_ok(&["exec", unit, "--", "cat", "/proc/net/if_inet6"]);
        all.lines().filter(|line| line.ends_with("eth0")).count()
    };
    assert_eq!((has("evil"), has("control")), (0, 2));
    // Of the host's devices for them only the bridge of the other network has any.
    let (_, bridges) = rig.on_host("ip -o -6 addr | grep -cE ' (bb|bp)[^ ]* .*scope global'");
    let (_, all) = rig.on_host("ip -o -6 addr | grep -E ' (bb|bp)' | awk '{print $2}' | sort -u");
    assert_eq!((bridges.trim(), all.lines().count()), ("1", 1), "{all}");
    // One that switches it on again, or needs no kernel for it, is heard by nobody.
    let solicit = "6000000000203aff".to_owned()
        + &"0".repeat(32)
        + "ff020000000000000000000000000001"
        + "870000000000000000000000000000000000cafe00000000000000000000cafe";
    let frame = ["33:33:00:00:00:01", "-", "86dd", solicit.as_str()];
    let address = address(&rig, "four", "evil", true).unwrap();
    let fence = |number: u32| {
        let honest = datagram(address.parse().unwrap(), Ipv4Addr::BROADCAST, 9, number);
        send(&rig, frame);
        send(&rig, ["ff:ff:ff:ff:ff:ff", "-", "0800", &honest]);
        rig.wait_log("victim", &format!("{number:08x}"));
        rig.logs("victim").contains("0000cafe")
    };
    assert!(!fence(0xfb_0001), "it gets through");
    nft(&rig, "insert rule bridge @T@ six accept");
    assert!(fence(0xfb_0002), "the control does not");
}
