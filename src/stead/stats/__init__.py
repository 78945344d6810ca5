"""The mathematics of series: quantile sketches, bands, windows and the raw block codec. Pure: no clock, no IO."""
