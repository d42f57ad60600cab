"""The lab on virtual machines: which machines, what they are made of, who brings them up."""
