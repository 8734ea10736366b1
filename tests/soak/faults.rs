//! What goes wrong in a soak: faults of every kind, by chance.

use std::time::Duration;

use super::dice::Dice;
use super::harness::scripted::{self, DataEnd, Fault, Rule, Then};
use super::harness::{Relay, Server};

pub fn scripted_fault(dice: &mut Dice, server: &scripted::Server, relay: &Relay) {
    let verb = ["RETR", "STOR", "APPE", "MLSD", "SIZE", "RNFR", "RNTO", "DELE", "MKD", "RMD", "EPSV", "PASS"]
        [dice.below(12) as usize];
    let transfer = ["RETR", "STOR", "APPE", "MLSD"][dice.below(4) as usize];
    match dice.below(12) {
        0 => server.drop_sessions(),
        1 => relay.cut(),
        2 => dark(dice, relay),
        3 => relay.delay(Duration::from_millis(dice.below(20))),
        4 => server.set_max_sessions(1 + dice.below(4) as usize),
        5 => {
            server.set_max_sessions(1 + dice.below(3) as usize);
            server.drop_sessions();
        }
        6 => {
            server.faults().add(Rule::on(verb).once().act(Fault::Reply("421 Service not available.".into())))
        }
        7 => server.faults().add(Rule::on(verb).once().act(Fault::Close)),
        8 => server.faults().add(Rule::on(verb).once().act(Fault::Done(Then::Close))),
        9 => server.faults().add(Rule::on("*").times(5).act(Fault::Delay(Duration::from_millis(100)))),
        10 => server.faults().add(
            Rule::on(transfer).once().act(Fault::Data {
                after: dice.below(300_000),
                end: [DataEnd::Closed, DataEnd::Reset, DataEnd::Swallowed][dice.below(3) as usize],
                then: [
                    Then::Close,
                    Then::Reply("426 Connection closed.".into()),
                    Then::Reply("451 Local error.".into()),
                ][dice.below(3) as usize]
                    .clone(),
            }),
        ),
        _ => {
            // The server is away for a moment.
            server.set_max_sessions(0);
            server.drop_sessions();
            std::thread::sleep(Duration::from_millis(dice.below(1500)));
            server.set_max_sessions(8);
        }
    }
}

pub fn real_fault(dice: &mut Dice, server: &mut Server, relay: &Relay) {
    match dice.below(5) {
        0 => {
            server.stop();
            std::thread::sleep(Duration::from_millis(dice.below(1500)));
            server.restart();
        }
        1 | 2 => relay.cut(),
        3 => dark(dice, relay),
        _ => relay.delay(Duration::from_millis(dice.below(10))),
    }
}

fn dark(dice: &mut Dice, relay: &Relay) {
    relay.black_hole();
    // Now and then for longer than anybody waits.
    let long = dice.below(8) == 0;
    std::thread::sleep(Duration::from_millis(if long { 8000 } else { dice.below(1500) }));
    if long {
        relay.cut();
    }
    relay.heal();
}
