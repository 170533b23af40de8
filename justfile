# The menu. Every line is a command that works as well without just.

# list the recipes
default:
    @just --list

# share this shell, with a signaling server inside
host *args:
    go run ./cmd/pairterm host {{args}}

# build the program into ./pairterm
build:
    CGO_ENABLED=0 go build -trimpath -o pairterm ./cmd/pairterm

# the tests
test:
    go test ./...

# the tests with the race detector
race:
    go test -race ./...

# benchmarks, with allocations
bench pkg="./...":
    go test -run '^$' -bench . -benchmem {{pkg}}

# one fuzz target for a while: just fuzz ./peer/ticket FuzzParse 1m
fuzz pkg target time="30s":
    go test -run '^$' -fuzz '^{{target}}$' -fuzztime {{time}} {{pkg}}

# everything that has to pass before a change is taken
ci:
    bash .ci/run
