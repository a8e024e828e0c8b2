// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/metadata/metadatainformer"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/pager"
)

// deadline is for what a server does by itself.
const deadline = 30 * time.Second

// readSteps read, in every way in which caches are filled.
var readSteps = []step{
	{"pages", pages},
	{"stale continue token", staleContinue},
	{"watch with initial events", watchList},
	{"watch goes on after a version", watchResumes},
	{"watch without end times out with bookmarks", watchTimesOut},
	{"dynamic informer", dynamicInformer},
	{"metadata informer, patch and delete", metadataOnly},
	{"discovery and REST mapping", discover},
	{"OpenAPI v3", openAPI},
}

func fill(ctx context.Context, c *clients, label string, count int) (func(), error) {
	maps := c.typed.CoreV1().ConfigMaps(c.namespace)
	for index := range count {
		wanted := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{
			Name: fmt.Sprintf("%s-%02d", label, index), Labels: map[string]string{"probe": label},
		}}
		if _, err := maps.Create(ctx, wanted, metav1.CreateOptions{}); err != nil {
			return nil, err
		}
	}
	return func() {
		// What is left of it goes with the namespace.
		_ = maps.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "probe=" + label})
	}, nil
}

func pages(ctx context.Context, c *clients) error {
	empty, err := fill(ctx, c, "page", 25)
	if err != nil {
		return err
	}
	defer empty()
	selector := "probe=page"
	var sizes []int
	lister := pager.New(func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
		options.LabelSelector = selector
		list, err := c.typed.CoreV1().ConfigMaps(c.namespace).List(ctx, options)
		if err == nil {
			sizes = append(sizes, len(list.Items))
		}
		return list, err
	})
	lister.PageSize = 10
	seen := 0
	err = lister.EachListItem(ctx, metav1.ListOptions{}, func(runtime.Object) error { seen++; return nil })
	return errors.Join(err, same("items", seen, 25), same("pages", sizes, []int{10, 10, 5}))
}

func staleContinue(ctx context.Context, c *clients) error {
	_, err := c.typed.CoreV1().ConfigMaps(c.namespace).List(ctx, metav1.ListOptions{Continue: "bm90aGluZw", Limit: 1})
	return same("bad request", apierrors.IsBadRequest(err), true)
}

func watchList(ctx context.Context, c *clients) error {
	empty, err := fill(ctx, c, "initial", 5)
	if err != nil {
		return err
	}
	defer empty()
	sends := true
	stream, err := c.typed.CoreV1().ConfigMaps(c.namespace).Watch(ctx, metav1.ListOptions{
		LabelSelector: "probe=initial", SendInitialEvents: &sends, AllowWatchBookmarks: true,
		ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan,
	})
	if err != nil {
		return err
	}
	defer stream.Stop()
	for added := 0; ; {
		event, err := next(stream)
		switch {
		case err != nil:
			return err
		case event.Type == watch.Added:
			added++
		case event.Type == watch.Bookmark:
			end := event.Object.(*corev1.ConfigMap)
			return errors.Join(
				same("initial events", added, 5),
				same("mark", end.Annotations[metav1.InitialEventsAnnotationKey], "true"),
				same("version is set", end.ResourceVersion != "", true),
			)
		default:
			return fmt.Errorf("unexpected %s", event.Type)
		}
	}
}

func next(stream watch.Interface) (watch.Event, error) {
	select {
	case event, open := <-stream.ResultChan():
		if !open {
			return event, errors.New("the watch ended")
		}
		if event.Type == watch.Error {
			return event, apierrors.FromObject(event.Object)
		}
		return event, nil
	case <-time.After(deadline):
		return watch.Event{}, errors.New("no event came")
	}
}

func watchResumes(ctx context.Context, c *clients) error {
	maps := c.typed.CoreV1().ConfigMaps(c.namespace)
	before, err := maps.List(ctx, metav1.ListOptions{LabelSelector: "probe=resume"})
	if err != nil {
		return err
	}
	empty, err := fill(ctx, c, "resume", 1)
	if err != nil {
		return err
	}
	empty()
	options := metav1.ListOptions{LabelSelector: "probe=resume", ResourceVersion: before.ResourceVersion}
	stream, err := maps.Watch(ctx, options)
	if err != nil {
		return err
	}
	defer stream.Stop()
	added, err := next(stream)
	if err != nil {
		return err
	}
	deleted, err := next(stream)
	if err != nil {
		return err
	}
	return errors.Join(same("first", added.Type, watch.Added), same("second", deleted.Type, watch.Deleted))
}

func watchTimesOut(ctx context.Context, c *clients) error {
	seconds := int64(2)
	options := metav1.ListOptions{TimeoutSeconds: &seconds, AllowWatchBookmarks: true, LabelSelector: "probe=nobody"}
	stream, err := c.typed.CoreV1().ConfigMaps(c.namespace).Watch(ctx, options)
	if err != nil {
		return err
	}
	defer stream.Stop()
	for {
		select {
		case event, open := <-stream.ResultChan():
			if !open {
				return nil
			}
			if event.Type != watch.Bookmark {
				return fmt.Errorf("unexpected %s: %v", event.Type, event.Object)
			}
		case <-time.After(deadline):
			return errors.New("the watch did not end")
		}
	}
}

func dynamicInformer(ctx context.Context, c *clients) error {
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	resource := tinkerbell.WithResource("hardware")
	factory := dynamicinformer.NewFilteredDynamicSharedInformerFactory(c.dynamic, 0, c.namespace, nil)
	informer := factory.ForResource(resource).Informer()
	arrived := make(chan string, 10)
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: func(object any) { arrived <- object.(*unstructured.Unstructured).GetName() },
	})
	if err != nil {
		return err
	}
	factory.Start(ctx.Done())
	if !cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
		return errors.New("the cache did not fill")
	}
	hardware := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": tinkerbell.String(), "kind": "Hardware", "metadata": map[string]any{"name": "probe-informer"},
	}}
	api := c.dynamic.Resource(resource).Namespace(c.namespace)
	if _, err := api.Create(ctx, hardware, metav1.CreateOptions{}); err != nil {
		return err
	}
	for {
		select {
		case name := <-arrived:
			if name == hardware.GetName() {
				return api.Delete(ctx, name, metav1.DeleteOptions{})
			}
		case <-ctx.Done():
			return errors.New("the informer was not told")
		}
	}
}

func metadataOnly(ctx context.Context, c *clients) error {
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	empty, err := fill(ctx, c, "metadata", 3)
	if err != nil {
		return err
	}
	defer empty()
	resource := corev1.SchemeGroupVersion.WithResource("configmaps")
	factory := metadatainformer.NewFilteredSharedInformerFactory(c.metadata, 0, c.namespace, func(o *metav1.ListOptions) {
		o.LabelSelector = "probe=metadata"
	})
	informer := factory.ForResource(resource).Informer()
	factory.Start(ctx.Done())
	if !cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
		return errors.New("the cache did not fill")
	}
	api := c.metadata.Resource(resource).Namespace(c.namespace)
	patch := []byte(`{"metadata":{"annotations":{"probe":"seen"}}}`)
	patched, err := api.Patch(ctx, "metadata-00", types.MergePatchType, patch, metav1.PatchOptions{})
	if err != nil {
		return err
	}
	return errors.Join(
		same("cached", len(informer.GetStore().List()), 3),
		same("annotation", patched.Annotations["probe"], "seen"),
		api.Delete(ctx, "metadata-01", metav1.DeleteOptions{}),
	)
}

func discover(ctx context.Context, c *clients) error {
	discovery := c.typed.Discovery()
	version, err := discovery.ServerVersion()
	if err != nil {
		return err
	}
	groups, err := restmapper.GetAPIGroupResources(discovery)
	if err != nil {
		return err
	}
	mapper := restmapper.NewDiscoveryRESTMapper(groups)
	mapping, err := mapper.RESTMapping(tinkerbell.WithKind("Hardware").GroupKind())
	if err != nil {
		return err
	}
	events, err := mapper.ResourcesFor(corev1.SchemeGroupVersion.WithResource("events"))
	if err != nil {
		return err
	}
	return errors.Join(
		same("major", version.Major, "1"),
		same("resource", mapping.Resource.Resource, "hardware"),
		same("scope", string(mapping.Scope.Name()), "namespace"),
		same("events", len(events) > 0, true),
	)
}

func openAPI(_ context.Context, c *clients) error {
	paths, err := c.typed.Discovery().OpenAPIV3().Paths()
	if err != nil {
		return err
	}
	ours, found := paths["apis/"+tinkerbell.String()]
	if !found {
		return errors.New("the resources of the CRDs are not in it")
	}
	document, err := ours.Schema("application/json")
	if err != nil {
		return err
	}
	return same("document is there", len(document) > 1000, true)
}
