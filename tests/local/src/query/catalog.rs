//! The actions on what an account is given: zones, images, instance types.

use drover_cloud::ec2::{
    ApiError, DescribeAvailabilityZones, DescribeImages, DescribeInstanceTypes, DescribedZone, IMAGE_VOLUME_TYPE,
    Image, InstanceTypeInfo, Page,
};

use super::{Reader, Wire, Xml, filters, paged, write_tags};

impl Wire for DescribeAvailabilityZones {
    fn read(form: &Reader<'_>) -> Result<Self, ApiError> {
        // Asks for zones one has not opted in to as well; here there are none of those.
        form.optional::<bool>("AllAvailabilityZones")?;
        Ok(Self { zone_names: form.list("ZoneName")?, zone_ids: form.list("ZoneId")?, filters: filters(form)? })
    }

    fn write(zones: &Vec<DescribedZone>, xml: &mut Xml) {
        xml.items("availabilityZoneInfo", zones, |xml, described| {
            let zone = &described.zone;
            xml.text("zoneName", &zone.zone_name);
            xml.text("zoneId", &zone.zone_id);
            xml.text("zoneState", described.state);
            xml.text("zoneType", "availability-zone");
            xml.text("regionName", &zone.region_name);
            xml.text("groupName", &zone.region_name);
            xml.text("networkBorderGroup", &zone.region_name);
            xml.text("optInStatus", "opt-in-not-required");
            xml.items("messageSet", [""; 0], |xml, message| xml.text("message", message));
        });
    }
}

impl Wire for DescribeImages {
    fn read(form: &Reader<'_>) -> Result<Self, ApiError> {
        // Ask for deprecated and disabled images as well; here there are none of those.
        form.optional::<bool>("IncludeDeprecated")?;
        form.optional::<bool>("IncludeDisabled")?;
        Ok(Self {
            image_ids: form.list("ImageId")?,
            owners: form.list("Owner")?,
            executable_by: form.list("ExecutableBy")?,
            paged: paged(form)?,
        })
    }

    fn write(page: &Page<Image>, xml: &mut Xml) {
        xml.items("imagesSet", &page.items, |xml, image| {
            xml.text("imageId", &image.image_id);
            xml.text("imageLocation", image.location());
            xml.text("imageState", "available");
            xml.text("imageOwnerId", &image.owner_id);
            xml.time("creationDate", image.creation_date);
            xml.text("isPublic", false);
            xml.text("architecture", image.architecture);
            xml.text("imageType", "machine");
            xml.text("name", &image.name);
            xml.text("description", &image.description);
            xml.text("platformDetails", "Linux/UNIX");
            xml.text("usageOperation", "RunInstances");
            xml.text("rootDeviceType", "ebs");
            xml.text("rootDeviceName", &image.root_device_name);
            xml.items("blockDeviceMapping", [image], |xml, image| {
                xml.text("deviceName", &image.root_device_name);
                xml.element("ebs", |xml| {
                    xml.text("snapshotId", image.snapshot_id());
                    xml.text("volumeSize", image.root_size_gib);
                    xml.text("volumeType", IMAGE_VOLUME_TYPE);
                    xml.text("deleteOnTermination", true);
                    xml.text("encrypted", false);
                });
            });
            xml.text("virtualizationType", "hvm");
            xml.text("hypervisor", "xen");
            xml.text("enaSupport", true);
            write_tags(xml, &image.tags);
        });
        xml.optional("nextToken", page.next_token.as_ref());
    }
}

impl Wire for DescribeInstanceTypes {
    fn read(form: &Reader<'_>) -> Result<Self, ApiError> {
        // Asks for types that no zone offers as well; here there are none of those.
        form.optional::<bool>("IncludeUnsupportedInRegion")?;
        Ok(Self { instance_types: form.list("InstanceType")?, paged: paged(form)? })
    }

    fn write(page: &Page<InstanceTypeInfo>, xml: &mut Xml) {
        xml.items("instanceTypeSet", &page.items, |xml, info| {
            xml.text("instanceType", &info.instance_type);
            xml.text("currentGeneration", true);
            xml.values("supportedUsageClasses", ["on-demand"]);
            xml.values("supportedRootDeviceTypes", ["ebs"]);
            xml.values("supportedVirtualizationTypes", ["hvm"]);
            xml.text("bareMetal", false);
            xml.text("hypervisor", "nitro");
            xml.element("processorInfo", |xml| xml.values("supportedArchitectures", [info.architecture]));
            xml.element("vCpuInfo", |xml| {
                xml.text("defaultVCpus", info.vcpus);
                xml.text("defaultCores", info.cores());
                xml.text("defaultThreadsPerCore", info.threads_per_core());
            });
            xml.element("memoryInfo", |xml| xml.text("sizeInMiB", info.memory_mib));
            xml.text("instanceStorageSupported", false);
            xml.element("ebsInfo", |xml| {
                xml.text("ebsOptimizedSupport", "default");
                xml.text("encryptionSupport", "supported");
                xml.text("nvmeSupport", "required");
            });
            xml.element("networkInfo", |xml| {
                xml.text("maximumNetworkInterfaces", 1);
                xml.text("maximumNetworkCards", 1);
                xml.text("defaultNetworkCardIndex", 0);
                xml.text("ipv4AddressesPerInterface", info.ipv4_addresses_per_interface);
                // As many as of the other kind, of each of these types.
                xml.text("ipv6AddressesPerInterface", info.ipv4_addresses_per_interface);
                xml.text("ipv6Supported", true);
                xml.text("enaSupport", "required");
                xml.text("efaSupported", false);
            });
            xml.text("burstablePerformanceSupported", info.burstable);
            xml.text("autoRecoverySupported", true);
            xml.values("supportedBootModes", info.architecture.boot_modes());
        });
        xml.optional("nextToken", page.next_token.as_ref());
    }
}
