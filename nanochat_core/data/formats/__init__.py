"""Other people's layouts of conversations, each read in one place: for `check`, --fix, the Data tab and the hub."""
