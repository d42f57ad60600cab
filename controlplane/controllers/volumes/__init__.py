"""Storage: claims bound to volumes, volumes reclaimed, protected, attached and grown."""
