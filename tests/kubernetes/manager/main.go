// SPDX-License-Identifier: Apache-2.0

// Command manager is a controller manager made of controller-runtime, as Cluster API providers are, and a probe of what
// client-go asks of a server. The tests run both, unchanged, against the embedded API server and against Kubernetes.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
)

func main() {
	if len(os.Args) < 2 {
		fail(fmt.Errorf("usage: manager run|probe [flags]"))
	}
	flags := flag.NewFlagSet(os.Args[1], flag.ExitOnError)
	kubeconfig := flags.String("kubeconfig", "", "kubeconfig of the server")
	namespace := flags.String("namespace", "default", "namespace of the objects")
	identity := flags.String("identity", "", "run: name to be seen in what this process writes")
	if err := flags.Parse(os.Args[2:]); err != nil {
		fail(err)
	}
	ctrl.SetLogger(klog.Background())
	config, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	if err != nil {
		fail(err)
	}
	// The server is meant to be asked as fast as this program can.
	config.QPS, config.Burst = 500, 1000
	commands := map[string]func(context.Context, *rest.Config) error{
		"run":   func(ctx context.Context, c *rest.Config) error { return run(ctx, c, *namespace, *identity) },
		"probe": func(ctx context.Context, c *rest.Config) error { return probe(ctx, c, *namespace) },
	}
	command, known := commands[os.Args[1]]
	if !known {
		fail(fmt.Errorf("no command %q", os.Args[1]))
	}
	if err := command(ctrl.SetupSignalHandler(), config); err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "manager:", err)
	os.Exit(1)
}
