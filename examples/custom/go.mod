module example.com/upper

go 1.26.0

require github.com/sluice-data/sluice v0.0.0

replace github.com/sluice-data/sluice => ../..
