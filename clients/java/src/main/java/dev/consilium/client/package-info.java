/**
 * Asks a Consilium mesh. {@link dev.consilium.client.ConsiliumClient} is where to begin; replies are the messages of {@code
 * dev.consilium.v1} themselves, generated from the published protos.
 */
package dev.consilium.client;
