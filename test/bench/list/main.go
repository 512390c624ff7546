// SPDX-License-Identifier: Apache-2.0

// List measures what it costs to list containers: the whole command, in a bed
// with many containers, of which half run. One is installed; the others are
// copies of it under other names, with a unit that does nothing. Run it with
// chrt -r 1, so that other work on the machine hardly counts.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"syscall"

	"github.com/atomic-agent/atomic/test/bed"
	"github.com/atomic-agent/atomic/test/images"
)

func main() {
	containers := flag.Int("containers", 500, "how many containers there are")
	rounds := flag.Int("n", 25, "rounds")
	suite := flag.String("suite", "trixie", "the Debian release of the bed")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, *suite, *containers, *rounds)
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "bench: error: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, suite string, containers, rounds int) (err error) {
	builder, err := images.NewBuilder(os.Stderr)
	if err != nil {
		return err
	}
	storage, err := builder.Storage(ctx, images.Default())
	if err != nil {
		return fmt.Errorf("build test images: %w", err)
	}
	b, err := bed.Boot(ctx, bed.Options{Suite: suite, Product: true, Registry: storage, Log: os.Stderr})
	if err != nil {
		return err
	}
	defer func() {
		if cerr := b.Close(); err == nil {
			err = cerr
		}
	}()
	if _, err := b.WaitRunning(ctx); err != nil {
		return err
	}
	for _, script := range []string{populate, measure} {
		res, err := b.Run(ctx, "bash", "-c", script, "bench", strconv.Itoa(containers), strconv.Itoa(rounds))
		if err != nil {
			return fmt.Errorf("%w\n%s", err, res.Stderr)
		}
		fmt.Print(res.Stdout)
	}
	return nil
}

const populate = `set -e
atomic install --system --name c1 registry.test:5000/library/etcd >/dev/null
at=/var/lib/containers/atomic units=/etc/systemd/system.attached
mkdir -p /etc/systemd/system/multi-user.target.wants
for ((i = 2; i <= $1; i++)); do
	mkdir $at/c$i.0
	sed "s/\"name\": \"c1\"/\"name\": \"c$i\"/; s/c1\.service/c$i.service/" $at/c1.0/info >$at/c$i.0/info
	cp $at/c1.0/config.json $at/c$i.0
	ln -s $at/c$i.0 $at/c$i
	printf '[Service]\nExecStart=/usr/bin/sleep infinity\nSlice=atomic.slice\n' >$units/c$i.service
	ln -s $units/c$i.service /etc/systemd/system/multi-user.target.wants
done
systemctl daemon-reload
systemctl start $(seq -f 'c%g.service' 2 $(($1 / 2 + 1)))
`

// measure prints medians. The clock is bash's own: no process is started for it.
const measure = `set -e
median() {
	local what=$1 times=() began i
	shift
	for ((i = 0; i <= rounds; i++)); do
		began=${EPOCHREALTIME/[^0-9]/}
		"$@" >/dev/null
		[ $i = 0 ] || times+=($((${EPOCHREALTIME/[^0-9]/} - began)))
	done
	printf '%s\n' "${times[@]}" | sort -n | awk -v what="$what" '{t[NR] = $1} END {printf "%-28s %6.1f ms (%.1f to %.1f)\n", what, t[int((NR + 1) / 2)] / 1000, t[1] / 1000, t[NR] / 1000}'
}
rounds=$2
echo "$(atomic containers list -a -q | wc -l) containers, $(atomic containers list -q | wc -l) of them running; medians of $rounds"
median 'atomic containers list -a' atomic containers list -a
median 'atomic containers list' atomic containers list
median 'atomic version' atomic version
median 'systemctl list-units' systemctl list-units --no-pager 'c*.service'
`
