"""Work that stead runs itself: drivers that the `service` and `workload` actuators and the workload probe share."""
