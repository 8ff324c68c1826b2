//! A cloud without machines, started and asked as a client does.

use clap::Parser;

use super::*;
use crate::{
    fault::{Fault, MachineFault},
    testing::{client, send},
};

#[derive(Debug, Parser)]
struct Cli {
    #[command(flatten)]
    options: Options,
}

async fn start(home: &Home) -> Up {
    let words = ["up", "--no-machines", "--ec2-port", "0", "--s3-port", "0", "--speed", "1000"];
    Up::start(home.clone(), &Cli::parse_from(words).options).await.unwrap()
}

#[test]
fn speed_shortens_what_one_waits_for_and_not_how_long_a_terminated_instance_is_listed() {
    let network = network_of("10.7.0.0/16").unwrap();
    let timings =
        |speed: &str| account(&Cli::parse_from(["up", "--no-machines", "--speed", speed]).options, network).timings;
    let (usual, fast) = (timings("1"), timings("20"));
    let waits = |it: &Timings| {
        [
            it.boot,
            it.graceful,
            it.at_once,
            it.volume,
            it.attach,
            it.detach_running.unwrap(),
            it.address_move,
            it.status_checks,
        ]
    };
    assert_eq!(waits(&fast), waits(&usual).map(|wait| wait / 20));
    assert_eq!((fast.terminated_tags, fast.terminated_listed), (usual.terminated_tags, usual.terminated_listed));
}

async fn call(up: &Up, form: &str) -> reqwest::Result<(u16, String)> {
    let at = &up.endpoints;
    let request =
        http::Request::post(format!("{}/", at.ec2)).header("content-type", "application/x-www-form-urlencoded");
    let request = request.body(format!("Version=2016-11-15&{form}").into_bytes()).unwrap();
    let (status, _, body) = send(&client(), "ec2", (&at.access_key, &at.secret_key, None), request).await?;
    Ok((status, body))
}

async fn asked(home: &Home, ask: Ask) -> Told {
    control::ask(&home.socket(), &ask).await.unwrap()
}

/// What the log says of the calls so far: action, whether it changed something, whether its answer was withheld.
async fn log(home: &Home) -> Vec<(String, bool, bool)> {
    let Told::Calls(told) = asked(home, Ask::Calls { since: 0 }).await else { panic!("no calls") };
    told.calls.iter().map(|call| (call.action.clone(), call.changed, call.reply_lost)).collect()
}

const VOLUME: &str = "Action=CreateVolume&AvailabilityZone=local-1a&Size=1&ClientToken=one";

#[tokio::test]
async fn a_lost_reply_is_an_applied_call_that_the_same_token_finds_again_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::new(dir.path().join("home"));
    let up = start(&home).await;
    let fault = Fault::LostReply { action: Some("CreateVolume".into()), times: 1 };
    asked(&home, Ask::Set(fault)).await;
    call(&up, VOLUME).await.expect_err("the reply is withheld");
    let (_, listed) = call(&up, "Action=DescribeVolumes").await.unwrap();
    assert_eq!(log(&home).await, [("CreateVolume".into(), true, true), ("DescribeVolumes".into(), false, false)]);
    up.end().await.unwrap();

    let up = start(&home).await;
    let (status, again) = call(&up, VOLUME).await.unwrap();
    let id = |xml: &str| xml.split_once("<volumeId>").unwrap().1.split('<').next().unwrap().to_owned();
    assert_eq!((status, id(&again)), (200, id(&listed)));
    up.end().await.unwrap();
}

#[tokio::test]
async fn revoked_credentials_are_refused_until_they_are_given_back() {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::new(dir.path().join("home"));
    let up = start(&home).await;
    asked(&home, Ask::Set(Fault::Credentials)).await;
    let (status, body) = call(&up, VOLUME).await.unwrap();
    assert!(status == 401 && body.contains("<Code>AuthFailure</Code>"), "{status} {body}");
    assert!(matches!(asked(&home, Ask::Faults).await, Told::Faults(faults) if faults == [Fault::Credentials]));
    asked(&home, Ask::ClearAll).await;
    assert_eq!(call(&up, VOLUME).await.unwrap().0, 200);
    assert_eq!(log(&home).await, [("CreateVolume".into(), false, false), ("CreateVolume".into(), true, false)]);
    up.end().await.unwrap();
}

#[tokio::test]
async fn a_clock_that_is_wrong_refuses_both_services_requests_and_dates_its_answers() {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::new(dir.path().join("home"));
    let up = start(&home).await;
    let at = &up.endpoints;
    let operator = (at.access_key.as_str(), at.secret_key.as_str(), None);
    let s3 = async || {
        let request = http::Request::get(format!("{}/drover/none", at.s3)).body(vec![]).unwrap();
        send(&client(), "s3", operator, request).await.unwrap()
    };
    for seconds in [1_200, -1_200] {
        asked(&home, Ask::Set(Fault::ClockSkew { seconds })).await;
        let (status, body) = call(&up, VOLUME).await.unwrap();
        assert!(status == 400 && body.contains("<Code>RequestExpired</Code>"), "{status} {body}");
        let (status, headers, body) = s3().await;
        assert!(status == 403 && body.contains("<Code>RequestTimeTooSkewed</Code>"), "{status} {body}");
        let date = jiff::fmt::rfc2822::parse(headers["date"].to_str().unwrap()).unwrap().timestamp();
        let ahead = date.duration_since(crate::clock::now()).as_secs();
        assert!((ahead - seconds).abs() <= 2, "{ahead}");
        assert!(
            matches!(asked(&home, Ask::Faults).await, Told::Faults(faults) if faults == [Fault::ClockSkew { seconds }])
        );
    }
    asked(&home, Ask::Set(Fault::ClockSkew { seconds: 600 })).await;
    assert_eq!((call(&up, "Action=DescribeVolumes").await.unwrap().0, s3().await.0), (200, 404));
    asked(&home, Ask::ClearAll).await;
    assert_eq!(call(&up, VOLUME).await.unwrap().0, 200);
    up.end().await.unwrap();
}

#[tokio::test]
async fn faults_that_cannot_be_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::new(dir.path().join("home"));
    let up = start(&home).await;
    for fault in [
        Fault::ZoneOutage { zone: "nowhere".into() },
        Fault::FullSubnet { subnet: "subnet-0123456789abcdef0".into() },
        Fault::Machine(MachineFault::Kill { instance: "i-0123456789abcdef0".into() }),
        Fault::Machine(MachineFault::Freeze { instance: "i-0123456789abcdef0".into() }),
        Fault::LostReply { action: None, times: 0 },
    ] {
        assert!(matches!(asked(&home, Ask::Set(fault.clone())).await, Told::Refused(_)), "{fault}");
    }
    assert!(matches!(asked(&home, Ask::Faults).await, Told::Faults(faults) if faults.is_empty()));
    up.end().await.unwrap();
}

#[tokio::test]
async fn down_ends_what_is_up_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::new(dir.path().join("home"));
    let up = start(&home).await;
    assert!(matches!(
        Up::start(home.clone(), &Cli::parse_from(["up", "--no-machines"]).options).await,
        Err(UpError::Taken(_))
    ));
    let ending = tokio::spawn(async move {
        up.ended().await;
        up.end().await
    });
    down(&home).await.unwrap();
    ending.await.unwrap().unwrap();
    assert!(!home.dir().exists());
    down(&home).await.expect("there is nothing to end, and that is no error");
}

#[tokio::test]
async fn down_refuses_a_directory_that_is_not_of_drover_local() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("letter"), "dear").unwrap();
    let refused = down(&Home::new(dir.path())).await;
    assert!(matches!(&refused, Err(UpError::NotOurs(_))), "{refused:?}");
    let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["letter"], "nothing was made there either");
}

#[tokio::test]
async fn an_account_is_founded_in_the_network_that_is_named_and_keeps_it() {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::new(dir.path().join("home"));
    let start = async |network: &[&str]| {
        let words = ["up", "--no-machines", "--ec2-port", "0", "--s3-port", "0"];
        Up::start(home.clone(), &Cli::parse_from(words.iter().chain(network)).options).await
    };
    let up = start(&["--network", "10.9.0.0/16"]).await.unwrap();
    let (_, subnets) = call(&up, "Action=DescribeSubnets").await.unwrap();
    for subnet in ["10.9.1.0/24", "10.9.2.0/24", "10.9.3.0/24"] {
        assert!(subnets.contains(&format!("<cidrBlock>{subnet}</cidrBlock>")), "{subnets}");
    }
    up.end().await.unwrap();
    let other = start(&["--network", "10.8.0.0/16"]).await;
    assert!(
        matches!(&other, Err(UpError::OtherNetwork { kept, .. }) if kept.to_string() == "10.9.0.0/16"),
        "{other:?}"
    );
    start(&[]).await.unwrap().end().await.unwrap();
    for refused in ["10.9.0.0/24", "10.9.1.0/16", "10.9.0.0", "east"] {
        assert!(network_of(refused).is_err(), "{refused}");
    }
}
