"""A small fleet to describe: six instances over three zones, one of them stopped."""

from cloud import spec, unique, where_named

# Name -> zone, instance type, tags. "blue" in one and "Blue" in another: values are compared case by case.
FLEET = {
    "n0": (0, 0, {"colour": "red", "size": "1"}),
    "n1": (1, 0, {"colour": "green", "size": "2", "odd": ""}),
    "n2": (2, 1, {"colour": "blue", "size": "1"}),
    "n3": (0, 1, {"colour": "Blue", "size": "22", "odd": "a*b"}),
    "n4": (1, 0, {"colour": "red", "size": "2"}),
    "n5": (0, 0, {}),
}
STOPPED = "n5"
ALL = sorted(FLEET)


class Fleet:
    def __init__(self, cloud, shared):
        self.cloud, self.run = cloud, unique()
        self.ids = {}
        for name, (zone, kind, tags) in FLEET.items():
            own = spec("instance", {"run": self.run, "Name": name} | tags)
            wire = spec("network-interface", {f"wire-{name}": self.run})
            subnet = cloud.subnets[cloud.zones[zone]]["SubnetId"]
            asked = {"InstanceType": cloud.types[kind], "ClientToken": f"{self.run}-{name}"}
            asked |= {"SecurityGroupIds": [cloud.group]}
            self.ids[name] = shared.launch(SubnetId=subnet, TagSpecifications=[own, wire], **asked)["InstanceId"]
        cloud.wait("instance_running", *self.ids.values())
        cloud.ec2.stop_instances(InstanceIds=[self.ids[STOPPED]])
        cloud.wait("instance_stopped", self.ids[STOPPED])

    def names(self, *filters):
        """The names of our instances that pass the filters."""
        by_id = {instance: name for name, instance in self.ids.items()}
        return sorted(by_id[each] for each in self.cloud.found(where_named("tag:run", self.run), *filters))

    def __getitem__(self, name):
        return self.cloud.instance(self.ids[name])
