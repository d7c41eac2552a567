"""From words to cells: names, selectors, specs and settings are read and checked. No tensor is made."""
