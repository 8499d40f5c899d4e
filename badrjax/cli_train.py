"""The command line of one model: `badrjax train data.csv`, `badrjax predict run/ new.csv`."""
