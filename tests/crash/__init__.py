"""What crashes leave of a store: power loss, failing disks, kills, damage, full disks. Every harness has a control or a count."""
