// SPDX-License-Identifier: Apache-2.0

// The store behind kube-apiserver: etcd's own entry point, which the server module keeps as a library.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() {
	etcdmain.Main(os.Args)
}
