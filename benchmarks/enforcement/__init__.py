"""What enforcement gains and what it costs: protected work beside hogs, in arms that run one after the other on one machine."""
