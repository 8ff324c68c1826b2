//! Tags after creation, and what their rules refuse. The same rules at creation are in `launch` and `volumes`.

use super::*;

#[test]
fn tags_overwrite_and_are_deleted_by_key_by_value_or_all() {
    let mut cloud = Cloud::new();
    let id = cloud.launched();
    create(&mut cloud, &id, &[("a", "1"), ("b", "2"), ("c", "")]);
    create(&mut cloud, &id, &[("a", "3")]);
    assert_eq!(read(&mut cloud, &id), "a=3 b=2 c=");
    delete(&mut cloud, &id, &[("a", Some("1")), ("b", Some("2"))]);
    assert_eq!(read(&mut cloud, &id), "a=3 c=", "another value is not deleted");
    delete(&mut cloud, &id, &[("c", Some("")), ("a", Some(""))]);
    assert_eq!(read(&mut cloud, &id), "a=3", "an empty value is a value");
    create(&mut cloud, &id, &[("d", "4")]);
    delete(&mut cloud, &id, &[("a", None), ("nobody", None)]);
    assert_eq!(read(&mut cloud, &id), "d=4");
    delete(&mut cloud, &id, &[]);
    assert_eq!(read(&mut cloud, &id), "");
}

#[test]
fn a_bad_tag_is_refused() {
    let (key_max, value_max) = ("k".repeat(128), "é".repeat(256));
    let (key_over, value_over) = ("k".repeat(129), "v".repeat(257));
    let table: [(&[(&str, &str)], &str); 10] = [
        (&[(&key_max, &value_max)], "ok"),
        (&[(&key_over, "")], "InvalidParameterValue"),
        (&[("a", &value_over)], "InvalidParameterValue"),
        (&[("", "a")], "InvalidParameterValue"),
        (&[("aws:a", "b")], "InvalidParameterValue"),
        (&[("AWS:a", "b")], "InvalidParameterValue"),
        (&[("awsome", "b")], "ok"),
        (&[("a", "1"), ("a", "2")], "InvalidParameterValue"),
        (&[("a/b c", "d")], "ok"),
        (&[], "MissingParameter"),
    ];
    for (tags, expected) in table {
        let mut cloud = Cloud::new();
        let id = cloud.launched();
        assert_eq!(cloud.code(&CreateTags { resources: one(&id), tags: tag_list(tags) }), expected, "{tags:?}");
    }
}

#[test]
fn fifty_tags_are_the_limit_and_overwriting_needs_no_room() {
    let mut cloud = Cloud::new();
    let id = cloud.launched();
    let names: Vec<String> = (0..50).map(|n| format!("k{n}")).collect();
    let fifty: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "v")).collect();
    create(&mut cloud, &id, &fifty);
    assert_eq!(cloud.code(&CreateTags { resources: one(&id), tags: tag_list(&[("k0", "new")]) }), "ok");
    assert_eq!(cloud.code(&CreateTags { resources: one(&id), tags: tag_list(&[("k50", "v")]) }), "TagLimitExceeded");
    let many = RunInstances {
        tag_specifications: vec![tagged("volume", &[fifty.as_slice(), &[("k50", "v")]].concat())],
        ..cloud.request()
    };
    assert_eq!(cloud.code(&many), "TagLimitExceeded");
}

#[test]
fn keys_that_metadata_cannot_show_are_refused_on_machines_that_show_tags() {
    let keys = ["a/b", "a b", ".", "..", "_index", "é"];
    for (switch, expected) in [(Switch::Enabled, "InvalidParameterValue"), (Switch::Disabled, "ok")] {
        let mut cloud = Cloud::new();
        let mut request = cloud.request();
        request.metadata_options.instance_metadata_tags = Some(switch);
        let id = cloud.launch(&request).remove(0);
        for key in keys {
            let answer = cloud.code(&CreateTags { resources: one(&id), tags: tag_list(&[(key, "v")]) });
            assert_eq!(answer, expected, "{key:?} with metadata tags {switch}");
        }
        assert_eq!(
            cloud.code(&CreateTags { resources: one(&id), tags: tag_list(&[("a:b-c_d+e=f,g.h@i", "v")]) }),
            "ok"
        );
    }
}

#[test]
fn every_kind_of_resource_can_be_tagged_and_one_bad_id_stops_all() {
    let mut cloud = Cloud::new();
    let instance = cloud.launched();
    let described = cloud.describe(&instance);
    let resources = vec![
        described.network_interfaces[0].interface.network_interface_id.clone(),
        described.block_device_mappings[0].0.volume_id.clone(),
        cloud.image("arm"),
        cloud.subnet(0),
        cloud.group("machines"),
        described.instance.vpc_id.clone(),
        instance.clone(),
    ];
    let table = [
        ("i-00000001", "InvalidInstanceID.NotFound"),
        ("vol-00000001", "InvalidVolume.NotFound"),
        ("eni-00000001", "InvalidNetworkInterfaceID.NotFound"),
        ("i-1", "InvalidInstanceID.Malformed"),
        ("bucket-1", "InvalidID"),
    ];
    for (bad, expected) in table {
        let resources = [resources.clone(), one(bad)].concat();
        assert_eq!(cloud.code(&CreateTags { resources, tags: tag_list(&[("a", "b")]) }), expected);
        assert_eq!(read(&mut cloud, &instance), "");
    }
    cloud.ok(&CreateTags { resources: resources.clone(), tags: tag_list(&[("a", "b")]) });
    let tagged = cloud.ok(&DescribeTags { paged: Paged { filters: filters(&[("key", &["a"])]), ..Paged::default() } });
    assert_eq!(tagged.items.len(), resources.len());
    assert_eq!(cloud.code(&CreateTags { resources: vec![], tags: tag_list(&[("a", "b")]) }), "MissingParameter");
    let thousand_and_one = CreateTags { resources: vec![instance; 1001], tags: tag_list(&[("a", "b")]) };
    assert_eq!(cloud.code(&thousand_and_one), "InvalidParameterValue");
}

#[test]
fn tags_can_be_described_by_key_value_resource_and_type() {
    let mut cloud = Cloud::new();
    let (first, second) = (cloud.launched(), cloud.launched());
    create(&mut cloud, &first, &[("a", "1"), ("b", "2")]);
    create(&mut cloud, &second, &[("a", "2")]);
    type Asked<'a> = &'a [(&'a str, &'a [&'a str])];
    let table: [(Asked<'_>, usize); 7] = [
        (&[("key", &["a"])], 2),
        (&[("value", &["2"])], 2),
        (&[("resource-id", &[&first])], 2),
        (&[("resource-type", &["instance"])], 3),
        (&[("resource-type", &["image"])], 2),
        (&[("tag:a", &["2"])], 1),
        (&[("resource-type", &["instance"]), ("key", &["a"]), ("value", &["1"])], 1),
    ];
    for (asked, expected) in table {
        let paged = Paged { filters: filters(asked), ..Paged::default() };
        assert_eq!(cloud.ok(&DescribeTags { paged }).items.len(), expected, "{asked:?}");
    }
}

fn create(cloud: &mut Cloud, id: &str, tags: &[(&str, &str)]) {
    cloud.ok(&CreateTags { resources: one(id), tags: tag_list(tags) });
}

fn delete(cloud: &mut Cloud, id: &str, tags: &[(&str, Option<&str>)]) {
    let tag = |(key, value): &(&str, Option<&str>)| TagToDelete { key: (*key).into(), value: value.map(Into::into) };
    cloud.ok(&DeleteTags { resources: one(id), tags: tags.iter().map(tag).collect() });
}

fn read(cloud: &mut Cloud, id: &str) -> String {
    let tags = cloud.describe(id).instance.tags;
    tags.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ")
}
