//! CreateTags, DeleteTags, DescribeTags.

use drover_cloud::ec2::{ApiError, CreateTags, DeleteTags, DescribeTags, Page, TagDescription, TagToDelete};

use super::{Reader, Wire, Xml, paged, read_tag, write_done};

impl Wire for CreateTags {
    fn read(form: &Reader<'_>) -> Result<Self, ApiError> {
        Ok(Self { resources: form.list("ResourceId")?, tags: form.structures("Tag", |tag| read_tag(&tag))? })
    }

    fn write((): &(), xml: &mut Xml) {
        write_done(xml);
    }
}

impl Wire for DeleteTags {
    fn read(form: &Reader<'_>) -> Result<Self, ApiError> {
        let tags =
            form.structures("Tag", |tag| Ok(TagToDelete { key: tag.required("Key")?, value: tag.optional("Value")? }))?;
        Ok(Self { resources: form.list("ResourceId")?, tags })
    }

    fn write((): &(), xml: &mut Xml) {
        write_done(xml);
    }
}

impl Wire for DescribeTags {
    fn read(form: &Reader<'_>) -> Result<Self, ApiError> {
        Ok(Self { paged: paged(form)? })
    }

    fn write(page: &Page<TagDescription>, xml: &mut Xml) {
        xml.items("tagSet", &page.items, |xml, tag| {
            xml.text("resourceId", &tag.resource_id);
            xml.text("resourceType", tag.resource_type);
            xml.text("key", &tag.key);
            xml.text("value", &tag.value);
        });
        xml.optional("nextToken", page.next_token.as_ref());
    }
}
