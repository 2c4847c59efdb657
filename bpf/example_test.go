// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

//go:build linux

package bpf_test

import (
	"errors"
	"fmt"
	"log"

	"github.com/jurat-dev/jurat/bpf"
)

// An agent opens the sensor, takes in what runs, then reads for ever.
func Example() {
	sensor, err := bpf.Open(bpf.Options{})
	if open := new(bpf.OpenError); errors.As(err, &open) {
		log.Fatalf("%v\nhint: %s", err, open.Hint)
	} else if err != nil {
		log.Fatal(err)
	}
	defer sensor.Close()
	err = sensor.Snapshot(func(ev *bpf.Event) error {
		fmt.Println("already running:", ev.Process.PID, ev.Program.CommString())
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	var ev bpf.Event
	var done bpf.Mark
	for {
		switch err := sensor.Read(&ev); {
		case errors.Is(err, bpf.ErrNoEvent):
			if sensor.Mark(&done) { // all that was said is written
				sensor.Release(&done)
			}
			continue
		case err != nil:
			log.Fatal(err)
		}
		switch ev.Kind {
		case bpf.KindExec:
			fmt.Println(ev.Process.PID, "runs", ev.Program.Filename.String(), ev.Process.Taints.Names())
		case bpf.KindLost:
			fmt.Println(ev.Lost.Count, "records lost:", ev.Lost.Cause)
		}
	}
}
