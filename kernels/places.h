/*
 * Places: how the values of a channel are cut into segments of 2048 places, rows of 64 and blocks of 8 rows.
 * They decide in which order values are added, and so the bits.
 */
#ifndef CLNORM_PLACES_H
#define CLNORM_PLACES_H

#include "base.h"

#define CLNORM_SEGMENT_LOG2 11u
#define CLNORM_SEGMENT (1u << CLNORM_SEGMENT_LOG2)
#define CLNORM_ROW 64u /* a segment is rows of 64 places, */
#define CLNORM_ROWS (CLNORM_SEGMENT / CLNORM_ROW)
#define CLNORM_BLOCKS 4u /* and 4 blocks of as many rows */
#define CLNORM_BLOCK_ROWS (CLNORM_ROWS / CLNORM_BLOCKS)
#define CLNORM_BLOCK (CLNORM_SEGMENT / CLNORM_BLOCKS)

typedef struct clnorm_geometry {
  clnorm_ulong batch, channels, spatial;
  clnorm_uint slot_log2; /* a slot of 2^slot_log2 places holds one plane, or a piece of one */
  /* segments that one plane is cut into; 1 where planes share segments */
  clnorm_uint plane_segments;
  clnorm_uint segments; /* of one channel */
} clnorm_geometry;

CLNORM_FN clnorm_geometry clnorm_geometry_make(clnorm_ulong batch, clnorm_ulong channels,
                                               clnorm_ulong spatial) {
  clnorm_geometry g;
  g.batch = batch;
  g.channels = channels;
  g.spatial = spatial;
  g.slot_log2 = 0;
  while (g.slot_log2 < CLNORM_SEGMENT_LOG2 && ((clnorm_ulong)1 << g.slot_log2) < spatial)
    g.slot_log2++;
  g.plane_segments = (clnorm_uint)((spatial + CLNORM_SEGMENT - 1) / CLNORM_SEGMENT);
  const clnorm_uint slots_log2 = CLNORM_SEGMENT_LOG2 - g.slot_log2;
  const clnorm_ulong groups = (batch + ((clnorm_ulong)1 << slots_log2) - 1) >> slots_log2;
  g.segments = (clnorm_uint)groups * g.plane_segments;
  return g;
}

/* A segment's values: of `planes` samples from `sample` on, one slot each, `extent` positions from `position`
 * on. first: where they begin in a tensor without gaps, in elements from the channel's first plane. */
typedef struct clnorm_segment {
  clnorm_ulong first, sample, position;
  clnorm_uint extent;
  clnorm_uint planes;
} clnorm_segment;

CLNORM_FN clnorm_segment clnorm_segment_at(const clnorm_geometry *g, clnorm_uint index) {
  clnorm_segment s;
  const clnorm_ulong plane_stride = g->channels * g->spatial;
  const clnorm_uint group = g->plane_segments == 1 ? index : index / g->plane_segments;
  const clnorm_ulong position = (clnorm_ulong)(index - group * g->plane_segments) * CLNORM_SEGMENT;
  const clnorm_uint slots_log2 = CLNORM_SEGMENT_LOG2 - g->slot_log2;
  const clnorm_ulong plane = (clnorm_ulong)group << slots_log2;
  const clnorm_ulong left = g->batch - plane;
  s.first = plane * plane_stride + position;
  s.sample = plane;
  s.position = position;
  s.extent = (clnorm_uint)(g->spatial - position < CLNORM_SEGMENT ? g->spatial - position
                                                                  : CLNORM_SEGMENT);
  s.planes =
      (clnorm_uint)(left < ((clnorm_ulong)1 << slots_log2) ? left
                                                           : ((clnorm_ulong)1 << slots_log2));
  return s;
}

/* Elements in the first block of a segment. */
CLNORM_FN clnorm_uint clnorm_segment_first(const clnorm_geometry *g, const clnorm_segment *s) {
  if (1u << g->slot_log2 > CLNORM_BLOCK) return s->extent < CLNORM_BLOCK ? s->extent : CLNORM_BLOCK;
  const clnorm_uint planes = CLNORM_BLOCK >> g->slot_log2;
  return s->extent * (s->planes < planes ? s->planes : planes);
}

#endif
