#include "schedule.h"

#include <string.h>

#include "environment.h"

/* Elements of an output tile: enough to hide a launch's cost, few enough to share work evenly. */
#define TILE_MAX 16384u
#define TILE_MIN 2048u
/* Segments that are worth a node of their own. */
#define NODE_MIN_LOG2 3u
/* Items per worker, so that uneven speeds and the last item cost little. */
#define ITEMS_PER_WORKER 8u
#define CHANNEL_ITEMS_PER_WORKER 4u
/* Elements of one sample that a worker takes at a time: enough for the processor to foresee the next. */
#define RUN_ELEMENTS 4096u
#define GROUPS_PER_WORKER 8u
/* Where lanes are channels: channels of a tile of the output; those of a group whose statistics are computed at
 * once, and positions that are worth a table of coefficients. */
#define TABLE_CHANNELS 2048u
#define TABLE_LEAST 256u
#define BESIDE_CHANNELS 64u
#define TABLE_POSITIONS 64u
/* Elements of a group that are worth what a group costs. */
#define GROUP_MIN 2048u

static uint64_t ceil_div(uint64_t a, uint64_t b) { return a / b + (a % b != 0); }
static uint64_t at_least(uint64_t a, uint64_t b) { return a > b ? a : b; }
static uint64_t at_most(uint64_t a, uint64_t b) { return a < b ? a : b; }
static uint64_t round_up(uint64_t a, uint64_t unit) { return ceil_div(a, unit) * unit; }

void clnorm__traits_set_caches(clnorm_traits *traits, clnorm_caches caches) {
  traits->cache_bytes = caches.second;
  /* What the producer wrote and the operation writes just fits at half the last cache's size each; training,
   * which goes from sample to sample and reads x twice, finds less of it. */
  traits->stream_bytes = caches.last / 2 + 1;
  traits->train_stream_bytes = caches.last / 8 * 3;
}

static void add_launch(clnorm_schedule *s, clnorm_stage stage, uint64_t items) {
  const clnorm_launch launch = {.stage = stage, .items = items, .each = 1};
  s->launches[s->num_launches++] = launch;
}

static uint64_t num_groups(const clnorm_call *call) {
  return ceil_div(call->channels, call->channels_each);
}

/* Elements of y in a line of the cache. */
static uint32_t line_elements(const clnorm_call *call) {
  return CLNORM_LINE / clnorm_dtype_size((int32_t)call->views[CLNORM_VIEW_Y].storage);
}

/* Neighbouring channels whose planes are whole lines of the cache: a line that two workers write is moved
 * twice as often. */
static uint32_t whole_lines(const clnorm_call *call) {
  const uint32_t line = line_elements(call);
  uint32_t group = 1;
  while (group < line && group * call->spatial % line) group *= 2;
  return group;
}

/* Planes of neighbouring channels are one piece of memory, in every tensor. */
static bool planes_touch(const clnorm_schedule *s) {
  for (int v = 0; v < CLNORM_NUM_VIEWS; v++)
    if (s->call.views[v].channel != s->call.spatial) return false;
  return s->key.path == CLNORM_PATH_POSITIONS;
}

/* Channels that the vector form takes together, at most so many; whole lines where it can be. */
static uint32_t side_by_side(const clnorm_call *call, uint64_t most) {
  uint64_t group = whole_lines(call);
  if (group > most) group = 1;
  while (2 * group <= most) group *= 2;
  return (uint32_t)at_most(group, call->channels);
}

/* Lanes are channels, and kernels take them together. */
static bool channels_beside(const clnorm_schedule *s) {
  return s->key.path == CLNORM_PATH_CHANNELS && s->key.form == CLNORM_FORM_VECTOR;
}

/* Channels of a group, about so many and not more than `most`: whole lines of the cache and whole blocks, as far as
 * there are so many, and groups that are of about one size. */
static uint32_t group_beside(const clnorm_call *call, uint64_t wanted, uint64_t most) {
  uint64_t unit = line_elements(call);
  for (int v = 0; v < CLNORM_NUM_VIEWS; v++)
    if (call->views[v].block <= most) unit = at_least(unit, call->views[v].block);
  const uint64_t groups = ceil_div(call->channels, at_most(at_least(wanted, unit), most));
  const uint64_t each = at_most(round_up(ceil_div(call->channels, groups), unit), most);
  return (uint32_t)at_most(each, call->channels);
}

/* Elements of each item, if all workers are to have several. */
static uint64_t item_share(const clnorm_call *call, const clnorm_traits *traits) {
  const uint64_t total = call->batch * call->channels * call->spatial;
  return total / ((uint64_t)traits->workers * ITEMS_PER_WORKER);
}

/* Elements of a tile. */
static uint64_t tile_elements(const clnorm_call *call, const clnorm_traits *traits) {
  return at_least(TILE_MIN, at_most(item_share(call, traits), TILE_MAX));
}

/* Channels of a tile: all, which are one piece of memory, as far as tiles are many; or of a block that has planes of
 * its own about so many that those planes are a tile. */
static uint64_t tile_channels(const clnorm_call *call, const clnorm_traits *traits) {
  const clnorm_view *x = &call->views[CLNORM_VIEW_X], *y = &call->views[CLNORM_VIEW_Y];
  if (x->block > 1 || y->block > 1) return tile_elements(call, traits) / call->spatial;
  const uint64_t channels = item_share(call, traits) / TABLE_POSITIONS;
  return at_least(TABLE_LEAST, at_most(channels, TABLE_CHANNELS));
}

/* Positions whose channels, or blocks, are whole lines of y: a power of two. */
static uint64_t whole_positions(const clnorm_call *call) {
  const uint64_t line = line_elements(call), step = call->views[CLNORM_VIEW_Y].position[2];
  uint64_t unit = 1;
  while (unit < line && unit * step % line) unit *= 2;
  return unit;
}

/* All positions of a few samples, or some of one; channels_each is set. */
static void plan_tiles_beside(clnorm_schedule *s, const clnorm_traits *traits) {
  clnorm_call *call = &s->call;
  const uint64_t positions =
      at_least(tile_elements(call, traits) / call->channels_each, TABLE_POSITIONS);
  const uint64_t pieces = ceil_div(call->spatial, positions);
  const uint64_t samples = at_least(positions / call->spatial, 1);
  call->tile_spatial = (uint32_t)ceil_div(call->spatial, pieces);
  if (pieces > 1)
    call->tile_spatial = (uint32_t)round_up(call->tile_spatial, whole_positions(call));
  call->tile_batch = (uint32_t)ceil_div(call->batch, ceil_div(call->batch, samples));
}

/* Tiles in the order of memory: whole rows of neighbouring channels, or pieces of one large plane. */
static void plan_tiles(clnorm_schedule *s, const clnorm_traits *traits) {
  clnorm_call *call = &s->call;
  const uint64_t tile = tile_elements(call, traits);
  if (channels_beside(s)) {
    call->channels_each = group_beside(call, tile_channels(call, traits), TABLE_CHANNELS);
    plan_tiles_beside(s, traits);
    return;
  }
  const uint64_t pieces = ceil_div(call->spatial, tile);
  if (pieces > 1) {
    call->channels_each = 1;
    call->tile_batch = 1;
    call->tile_spatial = (uint32_t)round_up(ceil_div(call->spatial, pieces), CLNORM_ROW);
  } else {
    const uint64_t most = at_most(at_least(tile / call->spatial, 1), CLNORM_CHANNELS_MAX);
    const bool vector = traits->form == CLNORM_FORM_VECTOR;
    call->channels_each = !planes_touch(s) ? 1
                          : vector         ? side_by_side(call, most)
                                           : (uint32_t)at_most(most, call->channels);
    const uint64_t samples = at_least(tile / (call->spatial * call->channels_each), 1);
    call->tile_spatial = (uint32_t)call->spatial;
    call->tile_batch = (uint32_t)ceil_div(call->batch, ceil_div(call->batch, samples));
  }
}

static void add_tiles_launch(clnorm_schedule *s, clnorm_stage stage) {
  const clnorm_call *call = &s->call;
  add_launch(s, stage,
             ceil_div(call->batch, call->tile_batch) * num_groups(call) *
                 ceil_div(call->spatial, call->tile_spatial));
}

/* Groups that make long runs of memory in every sample, and that are many and fit in the cache as far as
 * whole lines, two at least, and a least size allow: processors fetch lines in pairs, and one of a pair that
 * another worker writes goes to and fro. */
static uint32_t channel_group(const clnorm_call *call, const clnorm_traits *traits,
                              uint64_t cached_elements) {
  const uint64_t line = line_elements(call);
  const uint64_t each = at_least(call->channels / traits->workers, line / call->spatial);
  const uint64_t pair = 2 * line / call->spatial;
  const uint64_t lines = at_most(at_least(whole_lines(call), pair), each);
  const uint64_t share = call->channels / (GROUPS_PER_WORKER * (uint64_t)traits->workers);
  const uint64_t run = at_most(RUN_ELEMENTS / call->spatial, CLNORM_CHANNELS_MAX);
  const uint64_t cached = cached_elements / call->batch / call->spatial;
  const uint64_t most = at_most(at_most(run, cached), share);
  const uint64_t least = at_least(lines, GROUP_MIN / (call->batch * call->spatial));
  return side_by_side(call, at_least(at_least(most, at_most(least, run)), 1));
}

/* Where lanes are channels: so few that workers have a group each, but whole lines. */
static uint32_t channel_group_beside(const clnorm_call *call, const clnorm_traits *traits) {
  return group_beside(call, ceil_div(call->channels, traits->workers), BESIDE_CHANNELS);
}

/* Several groups by one worker keep both directions of the memory busy: one is read while the one before is
 * written. */
static void plan_channel(clnorm_schedule *s, const clnorm_traits *traits, clnorm_stage stage) {
  clnorm_call *call = &s->call;
  const bool vector = traits->form == CLNORM_FORM_VECTOR;
  size_t element = clnorm_dtype_size((int32_t)call->views[CLNORM_VIEW_X].storage);
  if (stage == CLNORM_STAGE_BACKWARD_CHANNEL)
    element += clnorm_dtype_size((int32_t)call->views[CLNORM_VIEW_DY].storage);
  const uint64_t cached = traits->cache_bytes * 3 / 8 / element;
  call->channels_each = channels_beside(s)          ? channel_group_beside(call, traits)
                        : vector && planes_touch(s) ? channel_group(call, traits, cached)
                                                    : 1;
  call->groups_each = 1;
  call->tile_batch = 1;
  call->tile_spatial = 1;
  if (vector)
    call->groups_each =
        (uint32_t)ceil_div(num_groups(call), (uint64_t)traits->workers * CHANNEL_ITEMS_PER_WORKER);
  add_launch(s, stage, num_groups(call));
  s->launches[0].each = call->groups_each;
}

/* Where lanes are channels, a segment of a group is work enough for a node. Groups are of many channels, which are
 * long pieces of memory, unless there were too few nodes for the workers. */
static void plan_nodes_beside(clnorm_schedule *s, const clnorm_traits *traits, uint32_t segments) {
  clnorm_call *call = &s->call;
  const uint64_t nodes = (uint64_t)traits->workers * ITEMS_PER_WORKER;
  uint64_t each = at_most(tile_channels(call, traits), TABLE_CHANNELS);
  while (each > BESIDE_CHANNELS && segments * ceil_div(call->channels, each) < nodes) each /= 2;
  call->channels_each = group_beside(call, each, TABLE_CHANNELS);
  plan_tiles_beside(s, traits);
}

/* Nodes of segments, and tiles; returns how many nodes there are side by side. */
static uint64_t plan_nodes(clnorm_schedule *s, const clnorm_traits *traits, uint32_t segments) {
  clnorm_call *call = &s->call;
  const bool wide = traits->form == CLNORM_FORM_WIDE;
  if (channels_beside(s))
    plan_nodes_beside(s, traits, segments);
  else
    plan_tiles(s, traits);
  /* The vector form reduces the channels of a group together, the wide form each by itself. */
  const uint64_t lanes = wide ? call->channels : num_groups(call);
  const uint64_t nodes = (uint64_t)traits->workers * ITEMS_PER_WORKER;
  const uint64_t per_node = at_least(segments * lanes / nodes, 1);
  call->chunk_log2 = channels_beside(s) ? 0 : NODE_MIN_LOG2;
  while (2ull << call->chunk_log2 <= per_node) call->chunk_log2++;
  /* The wide finalize stage takes one node per work-item. */
  while (wide && ceil_div(segments, 1ull << call->chunk_log2) > traits->group_size)
    call->chunk_log2++;
  call->chunks = (uint32_t)ceil_div(segments, 1ull << call->chunk_log2);
  return lanes;
}

/* Room for nodes and coefficients of so many bytes. */
static void plan_workspace(clnorm_schedule *s, unsigned node, unsigned coefficients) {
  clnorm_call *call = &s->call;
  call->partials = 0;
  call->coefficients = round_up(call->channels * call->chunks * node, 64);
  s->workspace_size = call->coefficients + call->channels * coefficients;
}

static void plan_split(clnorm_schedule *s, const clnorm_traits *traits, uint32_t segments) {
  const uint32_t x = s->key.x;
  const uint64_t lanes = plan_nodes(s, traits, segments);
  plan_workspace(s, clnorm__partial_bytes(x), clnorm__coefficients_bytes(x));
  add_launch(s, CLNORM_STAGE_PARTIALS, lanes * s->call.chunks);
  add_launch(s, CLNORM_STAGE_FINALIZE, s->call.channels);
  add_tiles_launch(s, CLNORM_STAGE_APPLY);
}

/* Statistics that are computed again are forward's, which leaves them in the workspace; then sums take the place of
 * their nodes. */
static void plan_backward_split(clnorm_schedule *s, const clnorm_work *work,
                                const clnorm_traits *traits, uint32_t segments) {
  const uint32_t x = s->key.x;
  const unsigned coefficients = clnorm__gradient_coefficients_bytes(x);
  const uint64_t lanes = plan_nodes(s, traits, segments);
  plan_workspace(s, work->recompute ? clnorm__partial_bytes(x) : clnorm__sums_bytes(x),
                 coefficients);
  if (work->recompute) {
    s->saved = round_up(s->workspace_size, 64);
    s->saved_bytes = round_up(s->call.channels * coefficients / 4, 64);
    s->workspace_size = s->saved + 3 * s->saved_bytes;
    add_launch(s, CLNORM_STAGE_PARTIALS, lanes * s->call.chunks);
    add_launch(s, CLNORM_STAGE_FINALIZE, s->call.channels);
  }
  add_launch(s, CLNORM_STAGE_BACKWARD_PARTIALS, lanes * s->call.chunks);
  add_launch(s, CLNORM_STAGE_BACKWARD_FINALIZE, s->call.channels);
  if (work->gradients & CLNORM_GRADIENT_DX) add_tiles_launch(s, CLNORM_STAGE_BACKWARD_APPLY);
}

/* A tensor without gaps is one long plane to a copy. */
static void plan_copy(clnorm_schedule *s, const clnorm_traits *traits) {
  const uint64_t sample = s->call.channels * s->call.spatial;
  if (planes_touch(s) && s->call.views[CLNORM_VIEW_X].sample == sample &&
      s->call.views[CLNORM_VIEW_Y].sample == sample) {
    s->call.spatial *= s->call.batch * s->call.channels;
    s->call.batch = s->call.channels = 1;
    s->call.extent[1] = s->call.spatial;
  }
  plan_tiles(s, traits);
  add_tiles_launch(s, CLNORM_STAGE_COPY);
}

/* Where lanes are channels, a group's values are pieces of memory that are read twice: whole groups pay where the
 * worker's cache has them the second time, and every worker has one. */
static bool groups_fit(const clnorm_schedule *s, const clnorm_traits *traits) {
  const clnorm_call *call = &s->call;
  const uint64_t each = channel_group_beside(call, traits);
  const uint64_t bytes = each * call->batch * call->spatial *
                         clnorm_dtype_size((int32_t)call->views[CLNORM_VIEW_X].storage);
  return bytes <= traits->cache_bytes * 3 / 8 &&
         (ceil_div(call->channels, each) >= traits->workers ||
          call->batch * call->channels * call->spatial <= TILE_MAX);
}

/* Whole channels per worker need no workspace, one launch, and read x a second time from the cache where
 * it fits; but there must be channels enough to go round. */
static bool prefer_split(const clnorm_schedule *s, const clnorm_traits *traits, uint32_t segments) {
  const clnorm_call *call = &s->call;
  if (channels_beside(s)) return !groups_fit(s, traits);
  if (segments <= 2u << NODE_MIN_LOG2) return false;
  if (traits->form == CLNORM_FORM_VECTOR && traits->workers == 1) return false;
  return (double)call->channels < traits->split_below * traits->workers;
}

/* Writing around the caches pays where y would have left them before it is read. */
static bool prefer_stream(const clnorm_work *work, const clnorm_traits *traits) {
  const bool trains = work->operation != CLNORM_COPY && work->statistics == CLNORM_BATCH_STATISTICS;
  const clnorm_call *call = &work->call;
  const uint64_t bytes = call->batch * call->channels * call->spatial *
                         clnorm_dtype_size((int32_t)call->views[CLNORM_VIEW_Y].storage);
  if (traits->form == CLNORM_FORM_WIDE) return false;
  if (work->store == CLNORM_STORE_AUTO)
    return bytes >= (trains ? traits->train_stream_bytes : traits->stream_bytes);
  return work->store == CLNORM_STORE_STREAMED;
}

/* dx of given statistics needs no sums. */
static void plan_backward(clnorm_schedule *s, const clnorm_work *work, const clnorm_traits *traits,
                          uint32_t segments) {
  const bool dx = work->gradients & CLNORM_GRADIENT_DX;
  if (dx) s->call.flags |= CLNORM_HAS_DX;
  if (work->statistics == CLNORM_BATCH_STATISTICS) s->call.flags |= CLNORM_BATCH_MODE;
  if (work->gradients == CLNORM_GRADIENT_DX && work->statistics == CLNORM_GIVEN_STATISTICS) {
    plan_tiles(s, traits);
    add_tiles_launch(s, CLNORM_STAGE_BACKWARD_APPLY);
    return;
  }
  const bool split = work->cut == CLNORM_CUT_AUTO ? prefer_split(s, traits, segments)
                                                  : work->cut == CLNORM_CUT_SPLIT;
  if (split || work->recompute)
    plan_backward_split(s, work, traits, segments);
  else
    plan_channel(s, traits, CLNORM_STAGE_BACKWARD_CHANNEL);
}

static void plan_launches(clnorm_schedule *s, const clnorm_work *work,
                          const clnorm_traits *traits) {
  const clnorm_geometry g = clnorm_geometry_make(s->call.batch, s->call.channels, s->call.spatial);
  if (work->operation == CLNORM_COPY) {
    plan_copy(s, traits);
    return;
  }
  if (work->operation == CLNORM_BACKWARD) {
    plan_backward(s, work, traits, g.segments);
    return;
  }
  if (work->statistics == CLNORM_GIVEN_STATISTICS) {
    plan_tiles(s, traits);
    add_tiles_launch(s, CLNORM_STAGE_APPLY);
    return;
  }
  s->call.flags |= CLNORM_BATCH_MODE;
  const bool split = work->cut == CLNORM_CUT_AUTO ? prefer_split(s, traits, g.segments)
                                                  : work->cut == CLNORM_CUT_SPLIT;
  if (split)
    plan_split(s, traits, g.segments);
  else
    plan_channel(s, traits, CLNORM_STAGE_CHANNEL);
}

/* Sums over no values are 0; accumulators stay. */
static void plan_empty(clnorm_schedule *s, const clnorm_work *work) {
  const uint32_t parameters = CLNORM_GRADIENT_DWEIGHT | CLNORM_GRADIENT_DBIAS;
  if (work->operation == CLNORM_BACKWARD && s->call.channels && work->gradients & parameters &&
      !(s->call.flags & CLNORM_ACCUMULATE))
    add_launch(s, CLNORM_STAGE_BACKWARD_FINALIZE, s->call.channels);
}

unsigned clnorm__partial_bytes(uint32_t x) { return x == CLNORM_STORAGE_F64 ? 40 : 24; }
unsigned clnorm__coefficients_bytes(uint32_t x) { return x == CLNORM_STORAGE_F64 ? 24 : 12; }
unsigned clnorm__sums_bytes(uint32_t x) { return x == CLNORM_STORAGE_F64 ? 16 : 8; }
unsigned clnorm__gradient_coefficients_bytes(uint32_t x) {
  return x == CLNORM_STORAGE_F64 ? 32 : 16;
}

clnorm_schedule clnorm__schedule_make(const clnorm_work *work, const clnorm_traits *traits) {
  clnorm_schedule s;
  memset(&s, 0, sizeof s);
  s.call = work->call;
  s.key.form = traits->form;
  s.key.group_size = traits->group_size;
  s.key.x = work->call.views[CLNORM_VIEW_X].storage;
  s.key.y = work->call.views[CLNORM_VIEW_Y].storage;
  s.key.dy =
      work->operation == CLNORM_BACKWARD ? work->call.views[CLNORM_VIEW_DY].storage : s.key.x;
  s.key.path = work->path;
  if (!s.call.batch || !s.call.channels || !s.call.spatial) {
    plan_empty(&s, work);
  } else {
    if (prefer_stream(work, traits)) s.call.flags |= CLNORM_STREAMED;
    plan_launches(&s, work, traits);
  }
  for (unsigned i = 0; i < s.num_launches; i++) s.key.stages |= 1u << s.launches[i].stage;
  return s;
}
