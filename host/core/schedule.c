#include "schedule.h"

#include <string.h>

/* Elements of an output tile: enough to hide a launch's cost, few enough to share work evenly. */
#define TILE_MAX 16384u
#define TILE_MIN 2048u
/* Segments that are worth a node of their own. */
#define NODE_MIN_LOG2 4u
/* Items per worker, so that uneven speeds and the last item cost little. */
#define ITEMS_PER_WORKER 8u

static uint64_t ceil_div(uint64_t a, uint64_t b) { return a / b + (a % b != 0); }
static uint64_t at_least(uint64_t a, uint64_t b) { return a > b ? a : b; }
static uint64_t at_most(uint64_t a, uint64_t b) { return a < b ? a : b; }
static uint64_t round_up(uint64_t a, uint64_t unit) { return ceil_div(a, unit) * unit; }

bool clnorm_checked_product(const int64_t *factors, int count, int64_t *product) {
  int64_t result = 1;
  for (int i = 0; i < count; i++)
    if (__builtin_mul_overflow(result, factors[i], &result)) return false;
  *product = result;
  return true;
}

static void add_launch(clnorm_schedule *s, clnorm_stage stage, uint64_t items) {
  s->launches[s->num_launches].stage = stage;
  s->launches[s->num_launches].items = items;
  s->num_launches++;
}

/* Tiles in the order of memory: whole rows of neighbouring channels, or pieces of one large plane. */
static void plan_tiles(clnorm_schedule *s, const clnorm_traits *traits, clnorm_stage stage) {
  clnorm_forward *call = &s->call;
  const uint64_t total = call->batch * call->channels * call->spatial;
  const uint64_t share = total / ((uint64_t)traits->workers * ITEMS_PER_WORKER);
  const uint64_t tile = at_least(TILE_MIN, at_most(share, TILE_MAX));
  const uint64_t pieces = ceil_div(call->spatial, tile);
  if (pieces > 1) {
    call->group = 1;
    call->tile_batch = 1;
    call->tile_spatial = (uint32_t)round_up(ceil_div(call->spatial, pieces), CLNORM_ROW);
  } else {
    const uint64_t run = traits->form == CLNORM_FORM_WIDE ? tile : CLNORM_RUN_MAX;
    const uint64_t group = at_most(at_least(run / call->spatial, 1), CLNORM_GROUP_MAX);
    call->group = (uint32_t)at_most(group, call->channels);
    call->tile_spatial = (uint32_t)call->spatial;
    call->tile_batch =
        (uint32_t)at_most(at_least(tile / (call->spatial * call->group), 1), call->batch);
  }
  add_launch(s, stage,
             ceil_div(call->batch, call->tile_batch) * ceil_div(call->channels, call->group) *
                 ceil_div(call->spatial, call->tile_spatial));
}

/* Neighbouring channels that one worker takes together, so that small planes make long runs. */
static uint32_t channel_group(const clnorm_forward *call, const clnorm_traits *traits) {
  if (traits->form == CLNORM_FORM_WIDE) return 1;
  uint64_t group = at_most(at_least(CLNORM_RUN_MAX / call->spatial, 1), CLNORM_GROUP_MAX);
  while (group > 1 && ceil_div(call->channels, group) < 4ull * traits->workers) group /= 2;
  return (uint32_t)at_most(group, call->channels);
}

static void plan_channel(clnorm_schedule *s, const clnorm_traits *traits) {
  s->call.group = channel_group(&s->call, traits);
  s->call.tile_batch = 1;
  s->call.tile_spatial = 1;
  add_launch(s, CLNORM_STAGE_CHANNEL, ceil_div(s->call.channels, s->call.group));
}

static void plan_split(clnorm_schedule *s, const clnorm_traits *traits, uint32_t segments) {
  clnorm_forward *call = &s->call;
  const bool wide = traits->form == CLNORM_FORM_WIDE;
  const uint64_t nodes = (uint64_t)traits->workers * ITEMS_PER_WORKER;
  const uint64_t per_node = at_least(segments * call->channels / nodes, 1);
  call->chunk_log2 = NODE_MIN_LOG2;
  while (2ull << call->chunk_log2 <= per_node) call->chunk_log2++;
  /* The wide finalize stage takes one node per work-item. */
  while (wide && ceil_div(segments, 1ull << call->chunk_log2) > traits->group_size)
    call->chunk_log2++;
  call->chunks = (uint32_t)ceil_div(segments, 1ull << call->chunk_log2);
  call->partials = 0;
  call->affine = round_up(call->channels * call->chunks * sizeof(clnorm_partial), 64);
  s->workspace_size = call->affine + call->channels * sizeof(clnorm_affine);
  add_launch(s, CLNORM_STAGE_PARTIALS, call->channels * call->chunks);
  add_launch(s, CLNORM_STAGE_FINALIZE, call->channels);
  plan_tiles(s, traits, CLNORM_STAGE_APPLY);
}

/* A tensor is one long plane to a copy. */
static void plan_copy(clnorm_schedule *s, const clnorm_traits *traits) {
  s->call.spatial *= s->call.batch * s->call.channels;
  s->call.batch = s->call.channels = 1;
  plan_tiles(s, traits, CLNORM_STAGE_COPY);
}

/* Whole channels per worker need no workspace, one launch, and read x a second time from the cache where
 * it fits; but there must be channels enough to go round. */
static bool prefer_split(const clnorm_forward *call, const clnorm_traits *traits,
                         uint32_t segments) {
  const uint64_t items = ceil_div(call->channels, channel_group(call, traits));
  if (segments <= 2u << NODE_MIN_LOG2) return false;
  if (traits->form == CLNORM_FORM_VECTOR && traits->workers == 1) return false;
  return (double)items < traits->split_below * traits->workers;
}

/* Writing around the caches pays where y would not stay in them anyway. */
static bool prefer_stream(const clnorm_forward_desc *desc, const clnorm_forward *call,
                          const clnorm_traits *traits) {
  const uint64_t bytes = call->batch * call->channels * call->spatial * sizeof(float);
  if (traits->form == CLNORM_FORM_WIDE) return false;
  if (desc->store == CLNORM_STORE_AUTO) return bytes >= traits->stream_bytes;
  return desc->store == CLNORM_STORE_STREAMED;
}

clnorm_schedule clnorm_schedule_make(const clnorm_forward_desc *desc, const clnorm_traits *traits) {
  clnorm_schedule s;
  memset(&s, 0, sizeof s);
  s.form = traits->form;
  s.group_size = traits->group_size;
  s.call.batch = (uint64_t)desc->batch;
  s.call.channels = (uint64_t)desc->channels;
  s.call.spatial = (uint64_t)desc->spatial;
  s.call.eps = (float)desc->eps;
  if (desc->batch == 0 || desc->channels == 0 || desc->spatial == 0) return s;

  if (prefer_stream(desc, &s.call, traits)) s.call.flags |= CLNORM_STREAM;
  const clnorm_geometry g = clnorm_geometry_make(s.call.batch, s.call.channels, s.call.spatial);
  s.large_offsets = g.channels * g.spatial >= (UINT64_C(1) << 32) >> (10 - g.slot_log2);
  if (desc->statistics == CLNORM_NO_STATISTICS) {
    plan_copy(&s, traits);
    return s;
  }
  if (desc->statistics == CLNORM_GIVEN_STATISTICS) {
    plan_tiles(&s, traits, CLNORM_STAGE_APPLY);
    return s;
  }
  s.call.flags |= CLNORM_BATCH_MODE;
  if (desc->biased_running_var) s.call.flags |= CLNORM_BIASED_RUNNING_VAR;
  const bool split = desc->variant == CLNORM_VARIANT_AUTO
                         ? prefer_split(&s.call, traits, g.segments)
                         : desc->variant == CLNORM_VARIANT_SPLIT;
  if (split)
    plan_split(&s, traits, g.segments);
  else
    plan_channel(&s, traits);
  return s;
}
