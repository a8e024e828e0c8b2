// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"reflect"

	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
)

// clients are the three ways in which programs talk to a server: typed (protobuf where the kind has it), dynamic, and
// metadata only.
type clients struct {
	typed     *kubernetes.Clientset
	dynamic   dynamic.Interface
	metadata  metadata.Interface
	namespace string
}

// step is one thing that the probe tries.
type step struct {
	name string
	run  func(context.Context, *clients) error
}

// probe runs every step and tells all that failed.
func probe(ctx context.Context, config *rest.Config, namespace string) error {
	typed := rest.CopyConfig(config)
	typed.ContentType = "application/vnd.kubernetes.protobuf"
	typed.AcceptContentTypes = "application/vnd.kubernetes.protobuf,application/json"
	clientset, err := kubernetes.NewForConfig(typed)
	if err != nil {
		return err
	}
	dynamicClient, err := dynamic.NewForConfig(config)
	if err != nil {
		return err
	}
	metadataClient, err := metadata.NewForConfig(config)
	if err != nil {
		return err
	}
	c := &clients{typed: clientset, dynamic: dynamicClient, metadata: metadataClient, namespace: namespace}
	var all []error
	for _, step := range append(objectSteps, readSteps...) {
		if err := step.run(ctx, c); err != nil {
			all = append(all, fmt.Errorf("%s: %w", step.name, err))
			fmt.Printf("%s: FAILED\n", step.name)
		} else {
			fmt.Printf("%s: ok\n", step.name)
		}
	}
	return errors.Join(all...)
}

// same is an error when a value is not what it should be.
func same(what string, got, want any) error {
	if reflect.DeepEqual(got, want) {
		return nil
	}
	return fmt.Errorf("%s is %#v, not %#v", what, got, want)
}
