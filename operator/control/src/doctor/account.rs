//! Whose credentials these are, and whether the clocks agree.

use drover_cloud::{CloudError, Objects, examine::Identity};

use super::{Context, Examined, Finding};

/// AWS refuses a signature that is dated 5 minutes wrong (EC2) or 15 (S3).
const REFUSED_SECONDS: i64 = 300;
/// A machine with a time service is within a second.
const SUSPICIOUS_SECONDS: i64 = 60;

pub(super) async fn credentials<C: Examined>(context: &Context<C>) -> Finding {
    identity(&context.cloud.identity().await)
}

fn identity(identity: &Result<Identity, CloudError>) -> Finding {
    let name = "credentials";
    match identity {
        Ok(Identity { access_key, account, region }) => {
            let account = account.as_ref().map(|account| format!(" of account {account}")).unwrap_or_default();
            Finding::ok(name, format!("access key {access_key}{account}, Region {region}"))
        }
        Err(error) => Finding::failed(name, error, "look at what fetches the credentials"),
    }
}

pub(super) async fn clock<C: Examined>(context: &Context<C>) -> Vec<Finding> {
    // Any answer has a date, also a refusal: what is asked does not matter here.
    let asked = Objects::get(context.cloud.as_ref(), &context.keys.lock()).await;
    drop(asked);
    vec![ahead(context.cloud.clock_ahead())]
}

fn ahead(seconds: Option<i64>) -> Finding {
    let name = "clock";
    let Some(ahead) = seconds else {
        return Finding::warn(name, "not measured, for nothing answered", "see the checks below");
    };
    let off = ahead.abs();
    let side = if ahead > 0 { "ahead of" } else { "behind" };
    let found = format!("this machine's is {off} s {side} AWS's");
    let remedy = "set this machine's clock right, for example with `timedatectl set-ntp true`";
    match off {
        0..SUSPICIOUS_SECONDS => Finding::ok(name, "this machine's and AWS's agree"),
        SUSPICIOUS_SECONDS..REFUSED_SECONDS => Finding::warn(name, found, remedy),
        _ => Finding::fail(name, found, remedy),
    }
}

#[cfg(test)]
mod tests {
    use drover_cloud::Class;

    use super::{super::Level, *};

    #[test]
    fn a_clock_is_judged_by_how_far_aws_lets_it_be() {
        for (seconds, level, found) in [
            (Some(0), Level::Ok, "this machine's and AWS's agree"),
            (Some(-59), Level::Ok, "this machine's and AWS's agree"),
            (Some(60), Level::Warn, "this machine's is 60 s ahead of AWS's"),
            (Some(-299), Level::Warn, "this machine's is 299 s behind AWS's"),
            (Some(300), Level::Fail, "this machine's is 300 s ahead of AWS's"),
            (Some(-1_200), Level::Fail, "this machine's is 1200 s behind AWS's"),
            (None, Level::Warn, "not measured, for nothing answered"),
        ] {
            let finding = ahead(seconds);
            assert_eq!((finding.level, finding.found.as_str()), (level, found), "{seconds:?}");
            assert_eq!(finding.remedy.is_some(), level != Level::Ok);
        }
    }

    #[test]
    fn credentials_are_named_by_their_key_and_account() {
        let known = |account: Option<&str>| {
            let account = account.map(str::to_owned);
            identity(&Ok(Identity { access_key: "AKIA1".into(), account, region: "eu-central-1".into() })).found
        };
        assert_eq!(known(None), "access key AKIA1, Region eu-central-1");
        assert_eq!(known(Some("123456789012")), "access key AKIA1 of account 123456789012, Region eu-central-1");
        let none = identity(&Err(CloudError::new(Class::Denied, "credentials", "Credentials", "none")));
        assert_eq!(none.level, Level::Fail);
        assert!(none.remedy.is_some_and(|remedy| remedy.starts_with("give AWS credentials: AWS_ACCESS_KEY_ID")));
    }
}
